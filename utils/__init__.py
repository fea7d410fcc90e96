"""Floor 0: small, dependency-free building stones. Each module holds one idea."""
