"""How fast a prediction changes, beside the truth: spectra and coherence of regional BOLD."""

from __future__ import annotations

import numpy as np

from eeg2fmri_dist.pages.drawing import drawing, svg
from eeg2fmri_dist.pages.figure import Figure
from eeg2fmri_dist.pages.style import BLUE, INK
from eeg2fmri_dist.scores.temporal import coherence_by_frequency

_SEGMENT = 32
_FEWEST_VOLUMES = 16


def regional_spectra(
    predicted: np.ndarray, true: np.ndarray, tr_s: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Estimate spectra and coherence of regional means (Welch, half-overlapping Hann windows).

    Parameters
    ----------
    predicted, true : ndarray of shape (volume, region)
        Detrended, in the same unit.
    tr_s : float
        Repetition time in s.

    Returns
    -------
    tuple of ndarray of shape (frequency,)
        Frequencies in Hz; mean over regions of the power of the truth and of the prediction, as a
        share of the truth's power over all frequencies; mean over regions of the
        magnitude-squared coherence, 0 for constant series.
    """
    from scipy import signal

    length = min(_SEGMENT, len(true) // 2)
    options = {"fs": 1 / tr_s, "nperseg": length, "axis": 0}
    frequencies_hz, of_true = signal.welch(true, **options)
    _, of_predicted = signal.welch(predicted, **options)
    total = of_true.sum(axis=0).mean() or 1.0
    shares = (power.mean(axis=1) / total for power in (of_true, of_predicted))
    coherence = coherence_by_frequency(predicted, true, _SEGMENT).mean(axis=1)
    return (frequencies_hz[1:], *(share[1:] for share in shares), coherence)


def spectra_figures(predicted: np.ndarray, true: np.ndarray, tr_s: float) -> list[Figure]:
    """Draw what `regional_spectra` finds; nothing of recordings below 16 volumes."""
    if len(true) < _FEWEST_VOLUMES:
        return []
    frequencies_hz, of_true, of_predicted, coherence = regional_spectra(predicted, true, tr_s)
    with drawing(4.2, 2.0) as canvas:
        axes = canvas.subplots()
        axes.plot(frequencies_hz, of_true, color=INK, linewidth=1, label="true")
        axes.plot(frequencies_hz, of_predicted, color=BLUE, label="predicted")
        axes.set(xlabel="frequency (Hz)", ylabel="share of power", ylim=(0, None))
        axes.legend(fontsize=8)
        power = svg(canvas)
    with drawing(4.2, 2.0) as canvas:
        axes = canvas.subplots()
        axes.plot(frequencies_hz, coherence, color=BLUE)
        axes.set(xlabel="frequency (Hz)", ylabel="coherence", ylim=(0, 1))
        agreement = svg(canvas)
    return [
        Figure(
            "Power spectrum",
            "",
            "Power of regional BOLD over frequency, true (black) and predicted (blue).",
            power,
            "image/svg+xml",
        ),
        Figure(
            "Coherence",
            "",
            "Coherence of predicted and true regional BOLD over frequency.",
            agreement,
            "image/svg+xml",
        ),
    ]
