"""Training on any number of ranks: one loop for all networks, one pass for ridge and ensembles."""
