"""Floor 1: exact, memory-bounded evaluation of embeddings."""
