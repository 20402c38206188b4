"""Simulated subjects in NODDI's layout, with a known EEG-to-BOLD coupling and the truth."""

from preprocessing.simulation.run import plan, simulate
from preprocessing.simulation.subject import SimulatedSubject, simulate_subject
from preprocessing.simulation.truth import load_truth

__all__ = ["SimulatedSubject", "load_truth", "plan", "simulate", "simulate_subject"]
