"""Preprocessing of one recording as one would write it by hand; prints its stages as JSON.

``python -m tests.benchmarks.straightforward chain|literal EEG BOLD OUTPUT``: ``chain`` does it all,
with one registration; ``literal`` registers, warps and resizes each of `LITERAL_VOLUMES` volumes.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator

import ants
import h5py
import mne
import nibabel as nib
import numpy as np
from nilearn.masking import compute_epi_mask
from scipy.ndimage import zoom
from scipy.signal import spectrogram

from preprocessing.template.mni import load_brain_mask, load_template

DROP_VOLUMES = 5
GRID = (64, 64, 30)
LITERAL_VOLUMES = 3
BAND_HZ, SFREQ_HZ = (1, 30), 1000
N_WINDOWS = 11  # of 1 s in a TR, as in our own chain

stages: dict[str, float] = {}


@contextlib.contextmanager
def stage(name: str) -> Iterator[None]:
    """Add the processor time of a block to a stage."""
    began = time.process_time()
    yield
    stages[name] = stages.get(name, 0.0) + time.process_time() - began


def eeg_power(header: str, tr_s: float) -> np.ndarray:
    """Power (volume, channel, bin): load, filter, resample, spectrogram of each volume."""
    with stage("EEG: read"):
        raw = mne.io.read_raw_brainvision(header, preload=True, verbose="error")
    with stage("EEG: filter"):
        raw.filter(*BAND_HZ, verbose="error")
    with stage("EEG: resample"):
        raw.resample(SFREQ_HZ, verbose="error")
    with stage("EEG: spectra"):
        scanned = raw.annotations.description == "Response/R128"
        onsets = np.rint(raw.annotations.onset[scanned] * SFREQ_HZ).astype(int)
        return np.stack([_volume_power(raw, onset, tr_s) for onset in onsets[DROP_VOLUMES:]])


def _volume_power(raw: mne.io.BaseRaw, onset: int, tr_s: float) -> np.ndarray:
    samples = 1e6 * raw.get_data("eeg", onset, onset + round(tr_s * SFREQ_HZ))
    hop = (samples.shape[1] - SFREQ_HZ) // (N_WINDOWS - 1)
    _, _, power = spectrogram(
        samples, SFREQ_HZ, "hann", nperseg=SFREQ_HZ, noverlap=SFREQ_HZ - hop, detrend=False
    )
    return power.mean(axis=-1)[:, BAND_HZ[0] : BAND_HZ[1] + 1].astype(np.float32)


class Template:
    """The template's brain and its mask, as images of ANTs."""

    def __init__(self) -> None:
        self.mask = np.asarray(load_brain_mask().dataobj) > 0
        template = load_template()
        brain = np.asarray(template.dataobj, np.float32) * self.mask
        self.image = ants.from_nibabel_nifti(nib.Nifti1Image(brain, template.affine))

    def register(self, epi: nib.Nifti1Image) -> list[str]:
        """Affine, then SyN, of an EPI without its skull."""
        with stage("BOLD: registration"):
            mask = np.asarray(compute_epi_mask(epi).dataobj)
            brain = nib.Nifti1Image(np.asarray(epi.dataobj) * mask, epi.affine)
            moving = ants.from_nibabel_nifti(brain)
            return ants.registration(self.image, moving, "SyN")["fwdtransforms"]

    def onto_grid(self, volume: nib.Nifti1Image, transforms: list[str]) -> np.ndarray:
        """Warp, mask and resize a volume."""
        with stage("BOLD: warp"):
            warped = ants.apply_transforms(self.image, ants.from_nibabel_nifti(volume), transforms)
        with stage("BOLD: resize"):
            factors = np.divide(GRID, self.mask.shape)
            return zoom(warped.numpy() * self.mask, factors, order=1).astype(np.float32)


def read_bold(path: str) -> nib.Nifti1Image:
    """The whole run in memory."""
    with stage("BOLD: read"):
        image = nib.load(path)
        return nib.Nifti1Image(image.get_fdata(dtype=np.float32), image.affine, image.header)


def volume_of(run: nib.Nifti1Image, number: int) -> nib.Nifti1Image:
    """One volume."""
    return nib.Nifti1Image(np.ascontiguousarray(run.dataobj[..., number]), run.affine)


def chain(header: str, bold_path: str, output: str) -> None:
    """All of it, registering once."""
    run = read_bold(bold_path)
    power = eeg_power(header, float(run.header.get_zooms()[3]))
    kept = range(DROP_VOLUMES, run.shape[3])
    mean = nib.Nifti1Image(run.dataobj[..., DROP_VOLUMES:].mean(axis=3), run.affine)
    template = Template()
    transforms = template.register(mean)
    volumes = np.stack([template.onto_grid(volume_of(run, n), transforms) for n in kept])
    with stage("write"), h5py.File(output, "w") as file:
        file["eeg"], file["bold"] = power, volumes


def literal(_header: str, bold_path: str, _output: str) -> None:
    """A registration for each volume, of a few volumes."""
    run = read_bold(bold_path)
    template = Template()
    for number in range(DROP_VOLUMES, DROP_VOLUMES + LITERAL_VOLUMES):
        volume = volume_of(run, number)
        template.onto_grid(volume, template.register(volume))


if __name__ == "__main__":
    {"chain": chain, "literal": literal}[sys.argv[1]](*sys.argv[2:])
    print(json.dumps(stages))
