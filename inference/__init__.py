"""Floor 4: embed a gallery and search it."""
