"""From YAML files and overrides to a checked config, its errors in words, and its help."""
