"""The preprocessing job: what is computed, what is up to date, and the merge into one store."""
