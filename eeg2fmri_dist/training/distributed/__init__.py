"""Ranks and DeepSpeed: rank numbers, the engine, collectives, preemption."""
