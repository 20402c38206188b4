"""Numbers a model sees: windows over the store, their order, their split, their normalization."""
