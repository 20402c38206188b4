"""The training engine: one loop for all models, on any number of ranks."""
