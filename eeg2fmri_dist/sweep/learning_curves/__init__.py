"""Learning curves: every model on more and more training subjects, in every condition."""
