"""What lies on the disk beside the store: whole files, run folders, provenance, NIfTI runs."""
