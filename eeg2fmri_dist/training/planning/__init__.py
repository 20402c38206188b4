"""What a training will take, before it runs: parameters, operations, memory, time; preflight."""
