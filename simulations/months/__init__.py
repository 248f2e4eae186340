"""Lending months: a synthetic book under limit policies, month by month, in paired seeds, with intervals and charts.

What it shows rests on the assumptions written in `applicants`, `scenarios` and `book`; a lender puts in its own.
"""
