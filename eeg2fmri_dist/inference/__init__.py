"""A trained model, its file and its output. Knows no optimizer."""
