"""Figures of a recording that has EEG alone: spectra, topographies, band power over time."""

from __future__ import annotations

import numpy as np

from eeg2fmri_dist.config.preprocess import BANDS_HZ
from eeg2fmri_dist.pages.drawing import drawing, svg
from eeg2fmri_dist.pages.figure import Figure
from eeg2fmri_dist.pages.style import BLUE, GRAY, GREEN, ORANGE
from preprocessing.eeg.features import EegFeatures
from preprocessing.quality.electrode_figures import spectra, topographies
from preprocessing.quality.gather_evidence import cleaning_facts, spectra_around_cleaning
from preprocessing.quality.page_evidence import Evidence

_COLOURS = dict(zip(BANDS_HZ, (GRAY, GREEN, BLUE, ORANGE), strict=True))


def eeg_figures(features: EegFeatures, tr_s: float) -> list[Figure]:
    """Draw what the EEG of a recording looks like.

    Parameters
    ----------
    features : EegFeatures
        As a model takes them.
    tr_s : float
        Length of a volume in s.

    Returns
    -------
    list of Figure
        Without topographies where too few electrodes have a known place.
    """
    evidence = _evidence(features, tr_s)
    figures = [spectra(evidence), band_courses(features, tr_s), topographies(evidence)]
    return [figure for figure in figures if figure is not None]


def band_courses(features: EegFeatures, tr_s: float) -> Figure:
    """Power of each band over the recording, mean over channels, against its own median."""
    minutes = np.arange(len(features.power)) * tr_s / 60
    with drawing(4.6, 3.0) as canvas:
        bands = _bands_of(features.frequencies_hz)
        grid = np.atleast_1d(canvas.subplots(len(bands), 1, sharex=True))
        for axes, (name, inside) in zip(grid, bands.items(), strict=True):
            power = features.power[:, :, inside].mean(axis=(1, 2), dtype=np.float64)
            decibel = 10 * np.log10(np.maximum(power, 1e-12))
            axes.plot(minutes, decibel - np.median(decibel), color=_COLOURS[name], linewidth=1)
            axes.axhline(0, color=GRAY, linewidth=0.6)
            axes.set_ylabel(name)
            axes.margins(x=0)
        grid[-1].set_xlabel("time (min)")
        data = svg(canvas)
    return Figure(
        "EEG power over time",
        "dB against the median of the recording, mean over channels, one value per volume. The "
        "model predicts from these changes; jumps in all bands at once are movements.",
        f"Power of {', '.join(bands)} over {minutes[-1]:.1f} minutes.",
        data,
        "image/svg+xml",
        name="band-courses",
    )


def _bands_of(frequencies_hz: np.ndarray) -> dict[str, np.ndarray]:
    inside = {
        name: (frequencies_hz >= low) & (frequencies_hz < high)
        for name, (low, high) in BANDS_HZ.items()
    }
    return {name: chosen for name, chosen in inside.items() if chosen.any()}


def _evidence(features: EegFeatures, tr_s: float) -> Evidence:
    """Evidence of a recording without BOLD: what is of BOLD is empty."""
    none = np.zeros(0)
    return Evidence(
        facts={
            "channel_names": list(features.channel_names),
            "tr_s": tr_s,
            **cleaning_facts(features.cleaning),
        },
        quality={},
        epi=none,
        epi_mask=none,
        tsnr=none,
        grid_affine=none,
        carpet=none,
        confounds=none,
        brightness=none,
        frequencies_hz=np.asarray(features.frequencies_hz),
        spectrum=np.median(features.power, axis=0),
        power_course=none,
        marker_spacing_s=none,
        **spectra_around_cleaning(features),
    )
