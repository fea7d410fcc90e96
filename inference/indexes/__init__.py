"""From vectors to nearest neighbors: one module for each kind of index."""
