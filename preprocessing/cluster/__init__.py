"""Workers for the steps: processes here, in a Slurm job, under MPI. The only door to Dask.

Call `client.open_cluster`; the rest is behind it.
"""
