"""Simulated measurements: BOLD and EEG with noise and artifacts, written in real formats."""
