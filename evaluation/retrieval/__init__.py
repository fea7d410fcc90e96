"""Matches, distances and ranks."""
