"""Floor 1: person re-identification data, from files on disk to batches."""
