"""Workers on nodes. The only door to Dask."""
