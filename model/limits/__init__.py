"""The limit-decision module: how much, why, and what would change it. Integers and decimals only."""
