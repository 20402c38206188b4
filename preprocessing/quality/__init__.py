"""Pages by which a person accepts or rejects a recording before anything is trained on it."""
