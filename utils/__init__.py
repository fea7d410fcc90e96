"""Floor 0: what all floors share. Each module holds one idea."""
