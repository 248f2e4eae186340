"""A holder on its own machine: its keys, its files, its node."""
