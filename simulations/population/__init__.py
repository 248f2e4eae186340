"""Populations that nobody is: persons in columns, what each domain records of them, and files for a federation."""
