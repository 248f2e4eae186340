"""The coordinator: the Flower ServerApp, its strategy and the phases of a run."""
