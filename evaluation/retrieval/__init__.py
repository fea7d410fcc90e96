"""Who is whose match, how far apart they are, and at which rank a match stands."""
