"""The report of an evaluation as pages and tables. Reads results, computes no score."""
