"""Floor 1: training objectives. Pure functions of features and identities."""
