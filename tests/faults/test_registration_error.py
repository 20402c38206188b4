"""Distance of registrations from the true maps of simulated heads, by each way; printed as a table.

``python -m pytest -m faults tests/faults/test_registration_error.py -s`` shows the table.
"""

import nibabel as nib
import numpy as np
import pytest

from eeg2fmri_dist.config.preprocess import BoldConfig
from preprocessing.bold.registration import register
from preprocessing.simulation.brain.anatomy import EPI_SHAPE, build_anatomy, build_t1
from preprocessing.simulation.brain.geometry import random_head_map
from preprocessing.simulation.seeding import generator
from preprocessing.template.mni import load_brain_mask

pytestmark = pytest.mark.faults

# Heads of simulated NODDI subjects, as `launch/simulate.py` makes them with seed 0.
SUBJECTS = ("32", "35", "36", "37", "38", "40")
LARGEST_MEAN_MM = 1.5


def head(subject):
    """Mean EPI, its affine, the T1 and where the template's brain truly is in the scanner."""
    head_map = random_head_map(generator(0, subject, "head"))
    anatomy = build_anatomy(generator(0, subject, "epi"), head_map)
    noise = np.random.default_rng(0).normal(0, 3, anatomy.epi.shape)
    image, affine = build_t1(generator(0, subject, "t1"), head_map)
    mask = load_brain_mask()
    voxels = np.argwhere(np.asarray(mask.dataobj) > 0)
    true_mm = head_map.to_scanner(voxels @ mask.affine[:3, :3].T + mask.affine[:3, 3])
    epi = np.abs(anatomy.epi + noise).astype(np.float32)
    return epi, anatomy.affine, nib.Nifti1Image(image.astype(np.float32), affine), true_mm


def error_mm(found, affine, true_mm):
    """Mean distance over the brain inside the field of view."""
    to_index = np.linalg.inv(affine)
    index = true_mm @ to_index[:3, :3].T + to_index[:3, 3]
    seen = ((index >= -0.5) & (index <= np.array(EPI_SHAPE) - 0.5)).all(axis=1)
    return float(np.linalg.norm(found.native_mm - true_mm, axis=1)[seen].mean())


@pytest.fixture(scope="module")
def errors():
    """Subject -> way -> mean error in mm."""
    table = {}
    print(f"\n{'subject':8} {'affine':>7} {'gated SyN':>10} {'over T1':>8}   mean error (mm)")
    for subject in SUBJECTS:
        epi, affine, t1, true_mm = head(subject)
        ways = {
            "affine": register(epi, affine, BoldConfig(transform="affine")),
            "syn": register(epi, affine, BoldConfig(transform="syn")),
            "t1": register(epi, affine, BoldConfig(transform="affine"), t1),
        }
        table[subject] = {way: error_mm(found, affine, true_mm) for way, found in ways.items()}
        row = table[subject]
        print(f"{subject:8} {row['affine']:7.2f} {row['syn']:10.2f} {row['t1']:8.2f}", flush=True)
    return table


def test_the_mean_error_is_small(errors):
    for way in ("syn", "t1"):
        assert np.mean([row[way] for row in errors.values()]) <= LARGEST_MEAN_MM


def test_no_way_is_worse_than_affine_alone(errors):
    for subject, row in errors.items():
        assert row["syn"] <= row["affine"] + 0.01, subject
        assert row["t1"] <= row["affine"] + 0.01, subject


def test_a_t1_of_another_head_is_not_used():
    epi, affine, *_ = head("32")
    shifted = np.random.default_rng(0).normal(500, 100, (88, 120, 120)).astype(np.float32)
    noise = nib.Nifti1Image(shifted, np.diag([2.0, 2.0, 2.0, 1.0]))
    found = register(epi, affine, BoldConfig(transform="affine"), noise)
    assert found.quality["transform"] == "affine"
    assert found.quality["t1_rejected"]
