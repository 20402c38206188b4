"""Names of keys: the tree that they form, and what they were called before."""
