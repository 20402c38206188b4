"""Scores when a short scan of the same subject is at hand."""
