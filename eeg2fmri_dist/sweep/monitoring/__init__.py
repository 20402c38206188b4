"""What the user sees of a sweep: a table, a page, TensorBoard's HPARAMS."""
