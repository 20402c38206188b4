"""Gather the evidence for a quality page while a recording is being preprocessed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from eeg2fmri_dist.config.preprocess import PreprocessConfig
from preprocessing.bold.bold_run import BoldRun
from preprocessing.bold.motion import PARAMETERS, framewise_displacement_mm
from preprocessing.bold.non_steady_state import brightness_course, saturated_volumes
from preprocessing.bold.registration import Registration
from preprocessing.bold.resampling import BoldVolumes
from preprocessing.quality import bold_signal
from preprocessing.quality.known_truth import registration_error_mm
from preprocessing.quality.page_evidence import Evidence, as_bytes
from preprocessing.recordings import Recording

if TYPE_CHECKING:
    from eeg2fmri_dist.store import Confounds
    from preprocessing.artifacts.cleaning import Cleaning
    from preprocessing.eeg.features import EegFeatures

CONFOUNDS = (*PARAMETERS, "framewise_displacement_mm", "std_dvars", "global_signal_percent")
# A volume whose EEG power is further from the median than this is an outlier.
_OUTLIER_SPREADS = 4.0


@dataclass(frozen=True)
class Preprocessed:
    """A recording whose values are computed and not yet written."""

    recording: Recording
    run: BoldRun
    registration: Registration
    bold: BoldVolumes
    features: EegFeatures


def confounds_of(bold: BoldVolumes) -> Confounds:
    """Return motion, framewise displacement, DVARS and global signal of each volume."""
    from eeg2fmri_dist.store import Confounds

    series = _series(bold)
    columns = [
        bold.motion,
        framewise_displacement_mm(bold.motion)[:, None],
        bold_signal.std_dvars(series)[:, None],
        bold_signal.global_signal_percent(series)[:, None],
    ]
    return Confounds(CONFOUNDS, np.hstack(columns).astype(np.float32))


def gather(
    preprocessed: Preprocessed, confounds: Confounds, config: PreprocessConfig
) -> tuple[Evidence, dict[str, float | str | bool]]:
    """Return the evidence of a recording, and the numbers that belong into the store.

    Parameters
    ----------
    preprocessed : Preprocessed
    confounds : Confounds
        As `confounds_of` returns them.
    config : PreprocessConfig

    Returns
    -------
    evidence : Evidence
    quality : dict
        All numbers of the recording, those of its steps included.
    """
    bold, features, registration = (
        preprocessed.bold,
        preprocessed.features,
        preprocessed.registration,
    )
    series = _series(bold)
    brightness = brightness_course(preprocessed.run, registration.epi_mask)
    spacing_s = _marker_spacing_s(preprocessed, config)
    power = features.power.astype(np.float64)
    course = np.log10(np.maximum(power.sum(axis=2), 1e-12)).T
    quality = _quality(preprocessed, confounds) | {
        "saturated_volumes": saturated_volumes(brightness),
        "eeg_outlier_share": _outlier_share(course),
        **_cleaning_numbers(features),
        **_slice_peak(preprocessed),
        **registration_error_mm(preprocessed.recording, preprocessed.run, registration),
    }
    picture, rows = bold_signal.carpet(
        series, bold_signal.grid_tissues(bold.mask.shape, bold.mask), bold.mask
    )
    evidence = Evidence(
        facts=_facts(preprocessed, confounds, config) | {"carpet_rows": rows},
        quality=quality,
        epi=as_bytes(registration.warped_epi),
        epi_mask=registration.warped_mask,
        tsnr=bold_signal.tsnr_map(series, bold.mask).astype(np.float16),
        grid_affine=bold.affine,
        carpet=picture,
        confounds=confounds.values,
        brightness=brightness.astype(np.float32),
        frequencies_hz=features.frequencies_hz,
        spectrum=np.median(power, axis=0).astype(np.float32),
        power_course=course.astype(np.float32),
        marker_spacing_s=spacing_s,
        **spectra_around_cleaning(features),
    )
    return evidence, quality


def _series(bold: BoldVolumes) -> np.ndarray:
    """Time courses (volume, voxel) inside the mask."""
    series: np.ndarray = bold.volumes[:, bold.mask]
    return series


def _facts(
    preprocessed: Preprocessed, confounds: Confounds, config: PreprocessConfig
) -> dict[str, Any]:
    return {
        "key": preprocessed.recording.key,
        "tr_s": preprocessed.run.tr_s,
        "n_volumes": len(preprocessed.bold.volumes),
        "dummy_scans": config.dummy_scans,
        "origin": config.source.origin,
        "motion": config.bold.motion,
        "slice_timing": config.bold.slice_timing,
        "channel_names": preprocessed.features.channel_names,
        "eeg_unit": preprocessed.features.unit,
        "confound_names": confounds.names,
        **cleaning_facts(preprocessed.features.cleaning),
    }


def cleaning_facts(cleaning: Cleaning) -> dict[str, Any]:
    """Return the facts ``bad_channels`` and ``cleaning`` of `quality.page_evidence.Evidence`."""
    return {
        "bad_channels": dict(cleaning.bad_channels),
        "cleaning": {
            "gradient_volumes": cleaning.n_volumes,
            "heartbeats": cleaning.n_heartbeats,
            "reference": cleaning.reference,
            "spatial_filter": cleaning.spatial_filter,
            "residual_db": [[band, *left] for band, left in cleaning.residual_db.items()],
        },
    }


def _quality(preprocessed: Preprocessed, confounds: Confounds) -> dict[str, float | str | bool]:
    """Numbers of the steps, and how many volumes stand out."""
    dvars = confounds.values[1:, confounds.names.index("std_dvars")]
    return {
        **preprocessed.registration.quality,
        **preprocessed.bold.quality,
        **{f"eeg_{name}": value for name, value in preprocessed.features.quality.items()},
        "tr_mismatch": preprocessed.run.tr_mismatch,
        "std_dvars_max": float(dvars.max()) if len(dvars) else 0.0,
        "std_dvars_share_above_1.5": float((dvars > 1.5).mean()) if len(dvars) else 0.0,
    }


def _marker_spacing_s(preprocessed: Preprocessed, config: PreprocessConfig) -> np.ndarray:
    from preprocessing.eeg.file_formats import open_eeg
    from preprocessing.eeg.markers import volume_onsets

    run = preprocessed.run
    eeg = open_eeg(preprocessed.recording.eeg_path, config.eeg.marker)
    onsets = volume_onsets(eeg, run.n_volumes, run.tr_s, config.eeg)
    spacing_s: np.ndarray = np.diff(onsets) / eeg.sfreq_hz
    return spacing_s


def _outlier_share(course: np.ndarray) -> float:
    """Share of volumes whose EEG power, median over channels, is far from the recording's."""
    of_volume = np.median(course, axis=0)
    deviation = np.abs(of_volume - np.median(of_volume))
    spread = 1.4826 * np.median(deviation)
    return float((deviation > _OUTLIER_SPREADS * spread).mean()) if spread > 0 else 0.0


def _slice_peak(preprocessed: Preprocessed) -> dict[str, float]:
    """How far the power at the slice frequency stands out, where there are bins to compare.

    What gradient artifact removal leaves lies at multiples of slices per second.
    """
    features, run = preprocessed.features, preprocessed.run
    frequencies = np.asarray(features.frequencies_hz)
    slice_hz = run.shape[2] / run.tr_s
    away = np.abs(frequencies - slice_hz)
    near = (away > 1.5) & (away <= 3.5)
    if len(frequencies) < 8 or away.min() > 0.5 or near.sum() < 2:
        return {}
    spectrum = np.median(features.power, axis=(0, 1))
    peak = spectrum[away <= 1.0].max() / max(float(np.median(spectrum[near])), 1e-12)
    return {"eeg_slice_peak_db": float(10 * np.log10(max(peak, 1e-12)))}


def spectra_around_cleaning(features: EegFeatures) -> dict[str, np.ndarray]:
    """Spectra as recorded and as used, where they differ."""
    cleaning = features.cleaning
    if np.array_equal(cleaning.before_db, cleaning.after_db):
        return {}
    return {
        "cleaning_hz": np.asarray(cleaning.frequencies_hz),
        "spectrum_before": np.asarray(cleaning.before_db, np.float32),
        "spectrum_after": np.asarray(cleaning.after_db, np.float32),
    }


def _cleaning_numbers(features: EegFeatures) -> dict[str, float]:
    """Share of channels that were bad, and what is left of the artifacts where that is known."""
    cleaning = features.cleaning
    numbers = {"eeg_bad_channel_share": len(cleaning.bad_channels) / len(features.channel_names)}
    if cleaning.residual_db:
        medians = [median for median, _ in cleaning.residual_db.values()]
        numbers["eeg_residual_db"] = float(np.abs(medians).max())
    for band, (_, worst) in cleaning.residual_db.items():
        numbers[f"eeg_residual_{band}_db"] = worst
    return numbers
