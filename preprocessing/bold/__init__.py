"""A BOLD run -> volumes on the grid of the store."""
