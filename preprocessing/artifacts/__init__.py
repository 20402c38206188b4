"""Artifacts out of EEG: arrays in, arrays out; no files."""
