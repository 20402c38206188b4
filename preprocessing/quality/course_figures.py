"""What happened during the run, on one axis of time; and its first volumes."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from eeg2fmri_dist.pages.drawing import drawing, svg
from eeg2fmri_dist.pages.figure import Figure
from eeg2fmri_dist.pages.style import BLUE, GRAY, GREEN, INK, MUTED, ORANGE, RED
from preprocessing.quality.page_evidence import Evidence

_AXES = (("x", BLUE), ("y", ORANGE), ("z", GREEN))
_CARPET_TISSUES = ("gray", "white", "CSF")
FD_THRESHOLD_MM = 0.5
DVARS_THRESHOLD = 1.5


def time_courses(evidence: Evidence) -> Figure:
    """Motion, DVARS, global signal, EEG power and the carpet, one above the other."""
    heights = [1.0, 1.0, 0.9, 0.9, 0.9, 3.4, 1.8]
    with drawing(9.6, 10.6) as canvas:
        rows = canvas.subplots(7, 1, sharex=True, gridspec_kw={"height_ratios": heights})
        minutes = _minutes(evidence)
        _draw_parameters(rows[0], minutes, evidence, "trans_{}_mm", 1.0, "head moved (mm)")
        _draw_parameters(rows[1], minutes, evidence, "rot_{}_rad", 180 / np.pi, "turned (°)")
        _draw_course(
            rows[2], minutes, evidence.confound("framewise_displacement_mm"), "FD (mm)",
            FD_THRESHOLD_MM,
        )  # fmt: skip
        _draw_course(
            rows[3], minutes, evidence.confound("std_dvars"), "std. DVARS", DVARS_THRESHOLD
        )
        rows[4].plot(minutes, evidence.confound("global_signal_percent"), color=INK, linewidth=0.9)
        rows[4].set_ylabel("global\nsignal (%)")
        _draw_carpet(rows[5], minutes, evidence)
        _draw_power(rows[6], minutes, evidence)
        rows[6].set_xlabel("minutes after the start of the run")
        rows[0].legend(ncols=3, fontsize=8, loc="upper right", borderaxespad=0.1)
        rows[0].margins(x=0)
        canvas.align_ylabels(rows)
        data = svg(canvas)
    quality = evidence.quality
    return Figure(
        "Head motion, signal and EEG power over the run",
        f"Motion is relative to the run's mean. FD: framewise displacement; line at "
        f"{FD_THRESHOLD_MM} mm. Std. DVARS: change from volume to volume, 1 = noise alone; line at "
        f"{DVARS_THRESHOLD}. Carpet: time courses of the voxels by tissue, top of the head first, "
        "±3 standard deviations; vertical stripes concern the whole brain at once. EEG: power of "
        "all frequencies against each channel's median. A stripe in BOLD and EEG at the same time "
        "is motion.",
        f"Time courses of the run. Mean framewise displacement {quality['fd_mean_mm']:.2f} mm, "
        f"largest {quality['fd_max_mm']:.2f} mm; largest standardized DVARS "
        f"{quality['std_dvars_max']:.2f}.",
        data,
        "image/svg+xml",
        wide=True,
        name="time-courses",
    )


def first_volumes(evidence: Evidence) -> Figure:
    """Brightness of the brain until T1 relaxation has come to rest."""
    course = evidence.brightness[:20]
    dropped = int(evidence.facts["dummy_scans"])
    saturated = int(evidence.quality["saturated_volumes"])
    with drawing(4.6, 2.6) as canvas:
        axes = canvas.subplots()
        numbers = np.arange(len(course))
        if dropped:
            axes.axvspan(-0.5, min(dropped, len(course)) - 0.5, color=GRAY, alpha=0.18, linewidth=0)
            axes.text(
                min(dropped, len(course)) - 0.7, 0.97, "dropped", ha="right", va="top", fontsize=8,
                transform=axes.get_xaxis_transform(), color=MUTED,
            )  # fmt: skip
        axes.axhline(0, color=GRAY, linewidth=0.8)
        axes.plot(numbers, course, color=GRAY, linewidth=0.8)
        colors = [ORANGE if number < saturated else BLUE for number in numbers]
        axes.scatter(numbers, course, s=16, c=colors, zorder=3)
        axes.set_xlim(-0.5, len(course) - 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("volume")
        axes.set_ylabel("brightness against\nsteady state (%)")
        data = svg(canvas)
    return Figure(
        "First volumes of the run",
        f"{saturated} volume(s) brighter than the steady state (orange: T1 saturation), "
        f"{dropped} dropped.",
        f"Brightness of the first volumes: {saturated} are brighter than the steady state, "
        f"{dropped} are dropped.",
        data,
        "image/svg+xml",
        name="first-volumes",
    )


def _minutes(evidence: Evidence) -> np.ndarray:
    """Middle of each volume in the store, in minutes of the run."""
    facts = evidence.facts
    numbers = facts["dummy_scans"] + np.arange(len(evidence.confounds)) + 0.5
    minutes: np.ndarray = numbers * facts["tr_s"] / 60
    return minutes


def _draw_parameters(
    axes: Axes, minutes: np.ndarray, evidence: Evidence, name: str, scale: float, label: str
) -> None:
    courses = [scale * evidence.confound(name.format(axis)) for axis, _ in _AXES]
    for course, (axis, color) in zip(courses, _AXES, strict=True):
        axes.plot(minutes, course, color=color, label=axis, linewidth=0.9)
    # A head that lies still is shown as still.
    reach = max(0.25, 1.1 * max(float(np.abs(course).max()) for course in courses))
    axes.set_ylim(-reach, reach)
    axes.set_ylabel(label.replace(" (", "\n("))


def _draw_course(
    axes: Axes, minutes: np.ndarray, course: np.ndarray, label: str, threshold: float
) -> None:
    # The first volume has none before it.
    axes.plot(minutes[1:], course[1:], color=INK, linewidth=0.9)
    axes.axhline(threshold, color=RED, linewidth=0.9, linestyle="--")
    above = course > threshold
    axes.scatter(minutes[above], course[above], s=10, color=RED, zorder=3)
    axes.set_ylim(0, max(1.2 * threshold, 1.05 * float(course.max())))
    axes.set_ylabel(label)


def _draw_carpet(axes: Axes, minutes: np.ndarray, evidence: Evidence) -> None:
    picture = evidence.carpet / 32
    axes.imshow(
        picture, cmap="gray", vmin=-3, vmax=3, aspect="auto", interpolation="nearest",
        extent=_span(minutes, len(picture)),
    )  # fmt: skip
    edges = np.cumsum([0, *evidence.facts["carpet_rows"]])
    for edge in edges[1:-1]:
        axes.axhline(edge, color=ORANGE, linewidth=1)
    axes.set_yticks((edges[1:] + edges[:-1]) / 2, _CARPET_TISSUES)
    axes.tick_params(axis="y", length=0)
    axes.set_ylabel("voxels\n(±3 s.d.)")
    axes.grid(visible=False)


def _draw_power(axes: Axes, minutes: np.ndarray, evidence: Evidence) -> None:
    course = 10 * evidence.power_course
    course = course - np.median(course, axis=1, keepdims=True)
    axes.imshow(
        course, cmap="RdBu_r", vmin=-10, vmax=10, aspect="auto", interpolation="nearest",
        extent=_span(minutes, len(course)),
    )  # fmt: skip
    axes.set_yticks([])
    axes.set_ylabel("EEG channels\n(±10 dB)")
    axes.grid(visible=False)


def _span(minutes: np.ndarray, n_rows: int) -> tuple[float, float, float, float]:
    """Where a picture with one column a volume lies; its first row is on top."""
    half = float(minutes[1] - minutes[0]) / 2 if len(minutes) > 1 else 0.01
    return float(minutes[0]) - half, float(minutes[-1]) + half, n_rows, 0
