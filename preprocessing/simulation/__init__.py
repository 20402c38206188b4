"""Simulated subjects in NODDI's layout, with a known EEG-to-BOLD coupling and the truth.

Whoever preprocesses them learns of the truth through `recordings.Recording.truth`, as of any other
recording whose truth is known; the pipeline does not import this room.
"""

from preprocessing.simulation.data_set import plan, simulate
from preprocessing.simulation.subject import SimulatedSubject, simulate_subject
from preprocessing.simulation.truth import load_truth

__all__ = ["SimulatedSubject", "load_truth", "plan", "simulate", "simulate_subject"]
