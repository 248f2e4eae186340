"""The report of a sweep: figures, words and one self-contained page, from its two tables alone."""
