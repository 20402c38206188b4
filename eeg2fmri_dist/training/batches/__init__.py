"""From windows to batches on a device: inputs, cached tokens, the split's data, reading ahead."""
