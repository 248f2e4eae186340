"""The decision service of the lender: what it stores, decides, answers and proves."""
