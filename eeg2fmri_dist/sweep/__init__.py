"""Sweeps: many trainings as jobs, followed by any process that holds the sweep's folder."""
