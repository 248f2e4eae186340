"""A data holder's own commands: joining a federation, looking at its data, running its node. In no app bundle."""
