"""The mathematics of privacy: bounded sums, noise, accounting, plan, ledger and sealing.

Imports nothing else of fedscore and never flwr, so that each promise can be read and tested alone.
"""
