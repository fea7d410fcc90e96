"""Results as people read them: tables, curves, ranked lists, one HTML page."""
