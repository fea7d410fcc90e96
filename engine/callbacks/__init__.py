"""Lightning callbacks of a run, one duty each."""
