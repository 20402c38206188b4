"""Simulated brains: anatomy, regions, neural activity and its coupling to BOLD."""
