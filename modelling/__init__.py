"""Floor 2: networks, their weights and the Lightning module."""
