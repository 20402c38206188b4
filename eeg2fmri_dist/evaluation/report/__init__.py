"""The report of an evaluation and the comparison of several: pages, figures, maps, tables."""
