"""Floor 3: from a command line to a finished run; below it nothing reads the config tree."""
