"""The mathematics of credit: contracts, encoding, blocks, fusion, points, metrics and limits.

Imports nothing else of fedscore and never flwr, so that each formula can be read and tested alone.
"""
