"""What a training reads: the split's data, cached tokens, reading ahead, fingerprints of inputs."""
