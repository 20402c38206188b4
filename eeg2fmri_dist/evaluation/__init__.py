"""Scores, controls, the verdict on each run, figures and the report."""
