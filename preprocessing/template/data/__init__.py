"""Files that ship with the package: template, mask and their notice."""
