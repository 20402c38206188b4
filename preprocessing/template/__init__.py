"""MNI152 space: the template, its mask, the grid of the store, atlas labels."""
