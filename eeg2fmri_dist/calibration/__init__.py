"""A short scan of one subject: its reference image, the scale of each voxel, a ridge update."""
