"""Many nodes on one machine: simulations, reports, benchmarks and the command `fedscore`."""
