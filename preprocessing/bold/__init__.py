"""A BOLD run -> volumes on the grid of the store, by way of a registration with the template.

Call `bold_run.open_bold`, `registration.register`, `resampling.preprocess_bold`, in this order.
"""
