"""Floor 2: networks, the feature extractor and the Lightning module."""
