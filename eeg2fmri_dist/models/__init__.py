"""Models, one architecture a file; no training code, no files. Importing this imports no torch."""
