"""Floor 3: from a command line to a finished run; the only reader of the config tree."""
