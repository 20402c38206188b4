"""Models that are fitted without optimizer steps: ridge, ensembles, single passes."""
