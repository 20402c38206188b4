"""Registration against heads whose map to MNI space is known."""

import pickle
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from eeg2fmri_dist.config.preprocess import BoldConfig
from eeg2fmri_dist.errors import DataError
from preprocessing.bold import registration
from preprocessing.bold.anatomical import load_t1
from preprocessing.bold.registration import register
from preprocessing.simulation.brain import geometry
from preprocessing.simulation.brain.anatomy import EPI_SHAPE, build_anatomy
from preprocessing.template.mni import load_brain_mask

IN_ANOTHER_PROCESS = """
import pickle, sys
from eeg2fmri_dist.config.preprocess import BoldConfig
from preprocessing.bold.registration import register
epi, affine = pickle.load(sys.stdin.buffer)
found = register(epi, affine, BoldConfig())
sys.stdout.buffer.write(pickle.dumps(found))
"""


def head(seed, largest_warp_mm, monkeypatch):
    """Mean EPI with noise, its affine and the true map."""
    monkeypatch.setattr(geometry, "LARGEST_WARP_MM", largest_warp_mm)
    rng = np.random.default_rng(seed)
    head_map = geometry.random_head_map(rng)
    anatomy = build_anatomy(rng, head_map)
    epi = anatomy.epi + rng.normal(0, 10, anatomy.epi.shape)
    return epi.clip(0).astype(np.float32), anatomy.affine, head_map


def errors_mm(registration, affine, head_map):
    """Distance from the true position of each brain voxel inside the field of view."""
    mask = load_brain_mask()
    voxels = np.argwhere(np.asarray(mask.dataobj) > 0)
    true_mm = head_map.to_scanner(voxels @ mask.affine[:3, :3].T + mask.affine[:3, 3])
    to_voxel = np.linalg.inv(affine)
    index = true_mm @ to_voxel[:3, :3].T + to_voxel[:3, 3]
    seen = ((index >= -0.5) & (index <= np.array(EPI_SHAPE) - 0.5)).all(axis=1)
    return np.linalg.norm(registration.native_mm - true_mm, axis=1)[seen]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seed", "largest_warp_mm", "kept", "mean_mm"), [(1, 5.0, "affine", 1.5), (3, 18.0, "syn", 2.0)]
)
def test_syn_is_kept_where_it_helps(seed, largest_warp_mm, kept, mean_mm, monkeypatch):
    epi, affine, head_map = head(seed, largest_warp_mm, monkeypatch)
    linear = register(epi, affine, BoldConfig(transform="affine"))
    found = register(epi, affine, BoldConfig(transform="syn"))
    by_affine = errors_mm(linear, affine, head_map).mean()
    error = errors_mm(found, affine, head_map).mean()
    assert found.quality["transform"] == kept
    assert error <= mean_mm
    assert error <= by_affine + 0.01
    assert found.quality["jacobian_min"] > 0


@pytest.fixture
def gate(monkeypatch):
    """Register with stages whose results are given: affine's, and in what SyN's differ."""

    def register_with(config=None, **syn):
        by_affine = registration._Candidate(
            ["affine"], dice=0.93, mutual_information=0.3, correlation=0.5, coverage=0.98
        )
        better = {"dice": 0.95, "mutual_information": 0.4, "correlation": 0.6, "jacobian_min": 0.4}
        by_syn = replace(by_affine, transforms=["syn"], **(better | syn))
        stages = {
            "_import_ants": None,
            "_prepare": SimpleNamespace(
                moving_mask=SimpleNamespace(numpy=lambda: np.ones((2, 2, 2)))
            ),
            "_on_template": (None, None),
            "_affine": by_affine,
            "_syn": by_syn,
        }
        for name, result in stages.items():
            monkeypatch.setattr(registration, name, lambda *_, result=result: result)
        monkeypatch.setattr(registration, "_native_points", lambda _, transforms: transforms)
        return register(np.ones((2, 2, 2)), np.eye(4), config or BoldConfig(transform="syn"))

    return register_with


@pytest.mark.parametrize(
    "worse",
    [
        {"dice": 0.90},
        {"mutual_information": 0.29},
        {"correlation": 0.49},
        {"jacobian_min": -0.1},
        {"dice": 0.90, "mutual_information": 0.2, "correlation": 0.4},
    ],
    ids=lambda worse: "+".join(worse),
)
def test_syn_that_is_worse_in_anything_leaves_affine_and_a_flag(gate, worse):
    found = gate(**worse)
    assert found.native_mm == ["affine"]
    assert found.quality["transform"] == "affine"
    assert found.quality["syn_rejected"] is True
    assert found.quality["dice"] == found.quality["dice_affine"] == 0.93
    assert found.quality["dice_syn"] == worse.get("dice", 0.95)


def test_syn_that_is_better_in_all_is_kept_without_a_flag(gate):
    found = gate()
    assert found.native_mm == ["syn"]
    assert found.quality["transform"] == "syn"
    assert found.quality["syn_rejected"] is False
    assert found.quality["dice"] == 0.95


def test_the_gate_judges_the_transform_that_is_kept(gate):
    strict = BoldConfig(transform="syn", min_dice=0.94)
    assert gate(strict).quality["transform"] == "syn"
    with pytest.raises(DataError, match=r"failed its gate: .* by 0\.930 \(Dice\), at least 0\.94"):
        gate(strict, correlation=0.49)


@pytest.mark.slow
def test_two_processes_find_the_same_transform(monkeypatch):
    epi, affine, _ = head(2, 5.0, monkeypatch)
    runs = [
        subprocess.run(
            [sys.executable, "-c", IN_ANOTHER_PROCESS],
            input=pickle.dumps((epi, affine)),
            capture_output=True,
            check=True,
        )
        for _ in range(2)
    ]
    first, second = (pickle.loads(run.stdout) for run in runs)
    np.testing.assert_array_equal(first.native_mm, second.native_mm)
    assert first.quality == second.quality


def test_what_is_no_brain_fails_the_gate():
    x, y, z = np.indices((40, 40, 20))
    ball_and_rod = ((x - 10) ** 2 + (y - 10) ** 2 + (z - 10) ** 2 < 60) | (abs(x - y) < 3)
    with pytest.raises(DataError, match=r"failed its gate|no brain found"):
        register(
            np.where(ball_and_rod, 900.0, 5.0).astype(np.float32),
            np.diag([3.3, 3.3, 4.0, 1.0]),
            BoldConfig(transform="affine"),
        )


@pytest.fixture
def real_mean(realdata):
    """Mean of a real run and its affine."""
    import nibabel as nib

    image = nib.load(realdata / "studyforrest_bold" / "sf_bold.nii.gz")
    return np.asarray(image.dataobj[..., 5:25]).mean(axis=3).astype(np.float32), image.affine


@pytest.mark.realdata
def test_a_real_run_lands_in_mni_space(real_mean):
    quality = register(*real_mean, BoldConfig()).quality
    assert quality["dice"] >= 0.95
    assert quality.get("jacobian_min", 1.0) > 0


@pytest.mark.realdata
def test_a_real_run_lands_in_the_same_place_however_the_head_lay(real_mean):
    """The metric has optima some millimeters apart on real EPI; none may depend on the start."""
    mean, affine = real_mean
    rng = np.random.default_rng(0)
    poses = [np.eye(4), *(pose(rng) for _ in range(4))]
    found = []
    for moved in poses:
        native_mm = register(mean, moved @ affine, BoldConfig(transform="affine")).native_mm
        back = np.linalg.inv(moved)
        found.append(native_mm @ back[:3, :3].T + back[:3, 3])
    distance_mm = np.linalg.norm(found - np.mean(found, axis=0), axis=2)
    assert distance_mm.mean() <= 1
    assert distance_mm.max() <= 3


def pose(rng):
    """A head turned by about 8 degrees around each axis and moved by about 10 mm."""
    moved = np.eye(4)
    moved[:3, :3] = Rotation.from_euler("xyz", rng.normal(0, 8, 3), degrees=True).as_matrix()
    moved[:3, 3] = rng.normal(0, 10, 3)
    return moved


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((4, 4, 4, 2), np.float32), "not a usable T1"),
        (np.zeros((4, 4, 4), np.float32), "constant"),
        (None, "cannot be read"),
    ],
)
def test_an_unusable_t1_is_named(tmp_path, values, message):
    import nibabel as nib

    path = tmp_path / "t1.nii"
    if values is None:
        path.write_text("no image")
    else:
        nib.save(nib.Nifti1Image(values, np.eye(4)), path)
    with pytest.raises(DataError, match=message) as caught:
        load_t1(path)
    assert caught.value.where == path


def test_a_fine_t1_is_averaged_in_place(tmp_path):
    """Every point keeps its brightness: a ramp along each axis of the scanner stays that ramp."""
    import nibabel as nib

    affine = np.array([[-0.7, 0, 0.1, 60], [0, 0.7, 0, -80], [0.1, 0, 1.1, -50], [0, 0, 0, 1]])
    index = np.indices((91, 120, 60)).reshape(3, -1).T
    ramp = (index @ affine[:3, :3].T + affine[:3, 3]) @ [1.0, 2.0, 3.0]
    path = tmp_path / "t1.nii"
    nib.save(nib.Nifti1Image(ramp.reshape(91, 120, 60).astype(np.float32), affine), path)
    t1 = load_t1(path)
    assert t1.shape == (30, 40, 30)
    at_mm = np.argwhere(np.ones(t1.shape)) @ t1.affine[:3, :3].T + t1.affine[:3, 3]
    np.testing.assert_allclose(t1.get_fdata().ravel(), at_mm @ [1.0, 2.0, 3.0], atol=1e-3)
