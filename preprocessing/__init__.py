"""From raw recordings to one HDF5 store. Never imports torch or deepspeed."""
