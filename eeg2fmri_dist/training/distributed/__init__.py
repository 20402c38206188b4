"""One process among many: ranks and how they meet, DeepSpeed, collectives, stop, heartbeat."""
