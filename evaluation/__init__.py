"""Floor 1: exact evaluation of embeddings in bounded memory."""
