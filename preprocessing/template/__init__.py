"""MNI152 space: template, mask, grid of the store, atlas labels, and maps of heads to it."""
