"""What is known about a simulated subject, written beside its data."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from eeg2fmri_dist.errors import DataError
from eeg2fmri_dist.files.atomic import replacing, write_text

# Key -> shape and meaning; `save_truth` writes exactly these, and all or none of `REALISM_KEYS`.
KEYS = {
    "region_names": ("(region,)", "name of each region, `left ...` or `right ...`"),
    "region_networks": ("(region,)", "network of each region"),
    "region_mni_mm": ("(region, 3)", "center of each region in MNI mm"),
    "bands": ("(band,)", "delta, theta, alpha, beta"),
    "weights": (
        "(region, band)",
        "coupling: percent BOLD per s.d. of HRF-convolved band power; zero in a null data set",
    ),
    "population_weights": ("(region, band)", "coupling shared by all subjects, relative"),
    "band_power": ("(volume, region, band)", "mean power of the sources in each TR, (nA m)^2"),
    "hrf_power": (
        "(volume, region, band)",
        "band power convolved with the HRF, at the middle of each volume, z-scored",
    ),
    "bold_driven": (
        "(volume, region)",
        "noise-free BOLD that the EEG shows, percent signal change: sum(weights * hrf_power), and "
        "bold_nonlinear where there is such",
    ),
    "bold_hidden": (
        "(volume, region)",
        "noise-free BOLD of neural activity that the EEG does not show, percent signal change",
    ),
    "bold_measured": (
        "(volume, region)",
        "regional mean of the written BOLD run, percent signal change, with all noise",
    ),
    "noise_ceiling": (
        "(region,)",
        "correlation of bold_driven and bold_measured from volume 5 on, both without linear trend; "
        "NaN where a region lies outside the field of view",
    ),
    "leadfield_uv_per_nam": ("(63, region)", "scalp potentials of each region's dipole"),
    "volume_onsets_s": ("(volume,)", "start of each volume after the first raw EEG sample"),
    "heartbeats_s": ("(beat,)", "R peaks after the first raw EEG sample"),
    "tr_s": ("()", "repetition time"),
    "labels_mni": (
        "(91, 109, 91)",
        "region of each voxel of the 2 mm template: 0 = none, n = region n - 1",
    ),
    "mni_affine": ("(4, 4)", "voxel of labels_mni -> MNI mm"),
    "labels_native": ("(64, 64, 30)", "region of each voxel of the BOLD run, in the file's order"),
    "brain_native": ("(64, 64, 30)", "brain mask of the template in the BOLD run"),
    "grey_matter_native": ("(64, 64, 30)", "share of the regional signal that a voxel shows"),
    "native_affine": ("(4, 4)", "voxel of the BOLD run -> scanner mm"),
    "native_to_mni_mm": ("(64, 64, 30, 3)", "MNI mm of each voxel of the BOLD run"),
    "affine_scanner_to_mni": (
        "(4, 4)",
        "scanner mm -> MNI mm before the warp: a = affine @ scanner; mni = a + warp_mm(a)",
    ),
    "warp_mm": ("(46, 55, 46, 3)", "displacement at a, linear between points, constant outside"),
    "inverse_warp_mm": ("(46, 55, 46, 3)", "displacement at mni: a = mni + inverse_warp_mm(mni)"),
    "warp_affine": ("(4, 4)", "voxel of the displacement grids -> MNI mm"),
}


# Written where any key of `realism` is above 0; what is absent is 0.
REALISM_KEYS = {
    "bold_nonlinear": ("(volume, region)", "part of bold_driven that is not linear in band power"),
    "bold_shared_noise": (
        "(volume,)",
        "whole-brain percent signal change of breathing effort, which muscle noise in the EEG "
        "follows too: no coupling, and no part of bold_driven",
    ),
    "head_motion": (
        "(volume, 6)",
        "translations along x, y, z in mm, rotations about x, y, z in degrees, about the middle of "
        "the grid",
    ),
    "bad_channels": ("(63,)", "scalp channels that are flat, noisy or loose"),
}


def save_truth(path: Path, values: dict[str, np.ndarray]) -> None:
    """Write a subject's truth as ``.npz`` with the keys of `KEYS`, and maybe `REALISM_KEYS`."""
    if values.keys() not in (KEYS.keys(), KEYS.keys() | REALISM_KEYS.keys()):
        raise KeyError(f"truth lacks or adds {sorted(values.keys() ^ KEYS.keys())}")
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **values)


def load_truth(path: Path) -> dict[str, np.ndarray]:
    """Read what `save_truth` wrote.

    Raises
    ------
    DataError
        If the file is missing or damaged.
    """
    import zipfile

    try:
        with np.load(path) as archive:
            extra = [key for key in REALISM_KEYS if key in archive]
            return {key: archive[key] for key in [*KEYS, *extra]}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(
            f"not a whole truth file ({error})", where=path, remedy="simulate the subject again"
        ) from None


def write_readme(folder: Path) -> None:
    """Explain the truth files to their reader."""
    rows, harder = (
        "\n".join(f"| `{key}` | {shape} | {text} |" for key, (shape, text) in keys.items())
        for keys in (KEYS, REALISM_KEYS)
    )
    write_text(
        folder / "README.md",
        "# Truth of simulated recordings\n\n"
        "All recordings beside this folder are simulated. `sub-<id>.npz` holds what is known about "
        "a subject (`numpy.load`); `sub-<id>.json` says that all files of the subject are whole.\n"
        "\n"
        "Coordinates are mm, x to the right, y to the front, z up. The regional signal of a voxel "
        "is its region's percent signal change times `grey_matter_native`.\n\n"
        f"| key | shape | meaning |\n| --- | --- | --- |\n{rows}\n\n"
        "Where a key of `realism` is above 0 there are also:\n\n"
        f"| key | shape | meaning |\n| --- | --- | --- |\n{harder}\n",
    )
