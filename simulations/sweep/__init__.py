"""Sweeps: the same persons under many budgets, learners and trust models, in tidy tables, and the report on them."""
