"""The preprocessing job: what is there, what is up to date, the steps, the merge into one store.

From outside, call `pipeline.preprocess` to do it and `planning.plan` to be told what it would do.
"""
