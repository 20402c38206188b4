"""The EEG of a recording: spectra, topographies of the bands, spacing of the volume markers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from eeg2fmri_dist.config.preprocess import BANDS_HZ
from eeg2fmri_dist.pages.drawing import add_colorbar, drawing, svg, webp
from eeg2fmri_dist.pages.figure import Figure
from eeg2fmri_dist.pages.style import BLUE, GRAY, INK, ORANGE
from preprocessing.quality.page_evidence import Evidence

_FEWEST_ELECTRODES = 8


def spectra(evidence: Evidence) -> Figure:
    """Median spectrum of each channel; as recorded too, where it is used otherwise."""
    cleaned = len(evidence.cleaning_hz) > 0
    frequencies = evidence.cleaning_hz if cleaned else evidence.frequencies_hz
    after = evidence.spectrum_after if cleaned else _decibel(evidence.spectrum)
    with drawing(4.6, 3.0) as canvas:
        axes = canvas.subplots()
        _mark_bands(axes, float(frequencies[0]), float(frequencies[-1]))
        if cleaned:
            _draw_spread(axes, frequencies, evidence.spectrum_before, ORANGE, "as recorded")
        label = "as used" if cleaned else "median of channels"
        _draw_spread(axes, frequencies, after, BLUE, label)
        axes.set_xlabel("frequency (Hz)")
        axes.set_ylabel("power (dB µV²)" if cleaned else "power per volume (dB µV²)")
        axes.margins(x=0)
        axes.legend(fontsize=8, loc="upper right")
        data = svg(canvas)
    lead = "Of the signal as it is used"
    if cleaned:
        lead = f"As recorded, and as used after {', '.join(_changes(evidence.facts))}"
    return Figure(
        "EEG spectra",
        f"{lead}; line: median channel, band: 10 to 90 % of the channels. Expect a fall from "
        "1 Hz on and, in most subjects, a hump near 10 Hz; narrow peaks at slices per second and "
        "multiples are left over from the scanner.",
        f"EEG spectra from {frequencies[0]:.0f} to {frequencies[-1]:.0f} Hz.",
        data,
        "image/svg+xml",
        name="spectra",
    )


def _changes(facts: Mapping[str, Any]) -> list[str]:
    """What was done to the signal, in words."""
    changes = {
        "gradient artifact removal": facts["cleaning"]["gradient_volumes"],
        "pulse artifact removal": facts["cleaning"]["heartbeats"],
        "interpolation of bad channels": facts["bad_channels"],
        "average reference": facts["cleaning"].get("reference") == "average",
        "surface Laplacian": facts["cleaning"].get("spatial_filter") == "csd",
    }
    return [change for change, done in changes.items() if done] or ["cleaning"]


def topographies(evidence: Evidence) -> Figure | None:
    """Power of each band over the head; None where too few electrodes have a known place."""
    known = _known_electrodes(evidence.facts["channel_names"])
    if len(known) < _FEWEST_ELECTRODES:
        return None
    import mne

    names = [evidence.facts["channel_names"][index] for index in known]
    info = mne.create_info(names, 100.0, "eeg")
    info.set_montage(_montage(), match_case=False, verbose="error")
    bands = _bands(evidence)
    with drawing(9.6, 2.6, None) as canvas:
        grid = np.atleast_1d(canvas.subplots(1, len(bands)))
        for axes, (name, power) in zip(grid, bands.items(), strict=True):
            values = _decibel(power[known])
            image, _ = mne.viz.plot_topomap(
                values, info, axes=axes, show=False, cmap="viridis", contours=4, sensors="k."
            )
            bar = add_colorbar(canvas, image, axes, shrink=0.7, pad=0.02)
            bar.ax.tick_params(labelsize=7.5)
            low, high = BANDS_HZ[name]
            axes.set_title(f"{name}, {low}-{high} Hz", loc="center")
        canvas.subplots_adjust(left=0.01, right=0.97, bottom=0.02, top=0.88, wspace=0.12)
        data = webp(canvas)
    left_out = len(evidence.facts["channel_names"]) - len(known)
    caption = "dB µV², from above, nose up. Alpha should be strongest at the back; "
    caption += "one electrode that stands out alone is a bad channel."
    if left_out:
        caption += f" {left_out} channel(s) without a standard place are not shown."
    return Figure(
        "EEG power over the head",
        caption,
        f"Topographies of {', '.join(bands)} power.",
        data,
        "image/webp",
        wide=True,
        name="topographies",
    )


def marker_spacing(evidence: Evidence) -> Figure:
    """How far the volume markers stray from the repetition time."""
    tr_s = evidence.facts["tr_s"]
    stray_ms = 1000 * (evidence.marker_spacing_s - tr_s)
    with drawing(4.6, 2.6) as canvas:
        axes = canvas.subplots()
        axes.axhline(0, color=GRAY, linewidth=0.8)
        axes.plot(stray_ms, color=INK, linewidth=0, marker=".", markersize=3)
        reach = max(1.0, 1.2 * float(np.abs(stray_ms).max(initial=0.0)))
        axes.set_ylim(-reach, reach)
        axes.set_xlabel("volume")
        axes.set_ylabel("spacing − TR (ms)")
        data = svg(canvas)
    mean_s = float(evidence.marker_spacing_s.mean()) if len(stray_ms) else tr_s
    return Figure(
        "Spacing of the volume markers",
        f"{len(stray_ms) + 1} volumes, {mean_s:.5f} s apart on average; TR in use {tr_s:g} s. "
        "A slope or steps mean that EEG and scanner ran on different clocks.",
        f"Volume markers are {mean_s:.5f} s apart on average, the TR is {tr_s:g} s; the largest "
        f"deviation is {np.abs(stray_ms).max(initial=0.0):.2f} ms.",
        data,
        "image/svg+xml",
        name="marker-spacing",
    )


def _draw_spread(
    axes: Axes, frequencies: np.ndarray, spectrum_db: np.ndarray, color: str, label: str
) -> None:
    low, middle, high = np.percentile(spectrum_db, [10, 50, 90], axis=0)
    axes.fill_between(frequencies, low, high, color=color, alpha=0.18, linewidth=0)
    axes.plot(frequencies, middle, color=color, linewidth=1.2, label=label)


def _mark_bands(axes: Axes, first_hz: float, last_hz: float) -> None:
    """Borders and names of the bands."""
    for name, (low, high) in BANDS_HZ.items():
        left, right = max(low, first_hz), min(high, last_hz)
        if right <= left:
            continue
        axes.axvline(right, color=GRAY, linewidth=0.6, linestyle=":")
        axes.text(
            (left + right) / 2, 1.0, name, transform=axes.get_xaxis_transform(), fontsize=7,
            color=GRAY, ha="center", va="bottom",
        )  # fmt: skip


def _bands(evidence: Evidence) -> dict[str, np.ndarray]:
    """Mean power (channel,) of the bands that the features hold."""
    frequencies = evidence.frequencies_hz
    bands = {}
    for name, (low, high) in BANDS_HZ.items():
        inside = (frequencies >= low) & (frequencies < high)
        if inside.any():
            bands[name] = evidence.spectrum[:, inside].mean(axis=1)
    return bands


def _known_electrodes(names: list[str]) -> list[int]:
    known = {name.lower() for name in _montage().ch_names}
    return [index for index, name in enumerate(names) if name.lower() in known]


def _montage() -> Any:
    import mne

    # MNE 1.13 gave the standard montages the names of the heads that they were drawn on.
    names = mne.channels.get_builtin_montages()
    name = "colin27_1005" if "colin27_1005" in names else "standard_1005"
    return mne.channels.make_standard_montage(name)


def _decibel(power: np.ndarray) -> np.ndarray:
    decibel: np.ndarray = 10 * np.log10(np.maximum(power, 1e-12))
    return decibel
