"""Rigid motion against a head that was moved by known amounts, and slices shifted in time."""

import os

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from eeg2fmri_dist.config.preprocess import BoldConfig
from eeg2fmri_dist.errors import DataError
from preprocessing.bold.motion import RigidAligner, framewise_displacement_mm, motion_quality
from preprocessing.bold.registration import Registration
from preprocessing.bold.resampling import moving_sampler, sampling_operator, trilinear_values
from preprocessing.bold.slice_timing import shift_to_mid_tr, slice_times_s
from preprocessing.recordings import Recording
from preprocessing.simulation.brain import anatomy
from preprocessing.simulation.brain.geometry import epi_affine, random_head_map, voxel_centers
from preprocessing.template.mni import load_brain_mask

GRID = (64, 64, 30)
# Millimeters and degrees, as a person who is asked to lie still moves.
MOTION = np.array(
    [
        [0, 0, 0, 0, 0, 0],
        [0.05, -0.03, 0.04, 0.02, 0.03, -0.02],
        [0.4, -0.2, 0.6, 0.5, -0.3, 0.2],
        [-0.7, 0.5, 0.3, -0.4, 0.6, 0.3],
        [0.2, 1.2, -0.8, 1.0, 0.1, -0.5],
    ]
) * [1, 1, 1, *np.deg2rad([1, 1, 1])]


class Head:
    """The simulator's head, which can be turned in the scanner."""

    def __init__(self):
        rng = np.random.default_rng(4)
        self.map = random_head_map(rng)
        self.affine = epi_affine(rng, self.map, anatomy.EPI_SHAPE, anatomy.EPI_VOXEL_MM)
        # What the receive coil adds stays where it is when the head moves.
        self.sensitivity = anatomy._bias(rng, anatomy.EPI_SHAPE, strength=0.2)
        self.brain = self.at(anatomy._template()[1], np.zeros(3), np.zeros(6)) > 0.5
        self.center_mm = self.mm(np.argwhere(self.brain)).mean(axis=0)

    def mm(self, index):
        return index @ self.affine[:3, :3].T + self.affine[:3, 3]

    def moved(self, points_mm, parameters):
        turned = Rotation.from_rotvec(parameters[3:]).apply(points_mm - self.center_mm)
        return turned + self.center_mm + parameters[:3]

    def at(self, image, center_mm, parameters):
        """An image of the template in the scanner, the head being moved."""
        seen_mm = voxel_centers(anatomy.EPI_SHAPE, self.affine) - center_mm - parameters[:3]
        still_mm = Rotation.from_rotvec(parameters[3:]).inv().apply(seen_mm) + center_mm
        return anatomy._sample(image, self.map.to_mni(still_mm)).reshape(anatomy.EPI_SHAPE)

    def volume(self, parameters):
        template, mask, _ = anatomy._template()
        t1 = self.at(anatomy._smoothed(template), self.center_mm, parameters)
        inside = self.at(anatomy._with_ventricles(mask), self.center_mm, parameters)
        signal = inside * np.interp(t1, anatomy._TEMPLATE_T1, anatomy._EPI_BRIGHTNESS)
        return 1000 * self.sensitivity * (signal + (1 - inside) * 0.25 * t1 / 5600)


@pytest.fixture(scope="module")
def head():
    return Head()


@pytest.fixture(scope="module")
def volumes(head):
    rng = np.random.default_rng(0)
    moved = [head.volume(parameters) * rng.normal(1, 0.01) for parameters in MOTION]
    return np.stack([v + rng.normal(0, 12, v.shape) for v in moved], axis=-1).astype(np.float32)


@pytest.fixture(scope="module")
def aligner(head, volumes):
    return RigidAligner(volumes[..., 0], head.affine, head.brain)


@pytest.fixture(scope="module")
def found(aligner, volumes):
    return aligner.align(volumes)


def test_known_motion_is_recovered(head, aligner, found):
    brain_mm = head.mm(np.argwhere(head.brain)[::40])
    for estimated, true in zip(found, MOTION, strict=True):
        shift_mm = aligner.displaced_mm(brain_mm, estimated) - head.moved(brain_mm, true)
        assert np.linalg.norm(shift_mm, axis=1).mean() < 0.1
    assert np.rad2deg(np.abs(found - MOTION)[:, 3:]).max() < 0.1
    assert np.abs(found - MOTION)[:, :3].max() < 0.1


def test_where_the_search_begins_does_not_matter(aligner, volumes, found):
    far = aligner.align(volumes[..., 3:4], start=MOTION[4])
    np.testing.assert_allclose(far[0], found[3], atol=2e-3)


def test_framewise_displacement_is_power_s():
    parameters = np.zeros((3, 6))
    parameters[1] = [0.1, -0.2, 0.0, 0.001, 0.0, -0.002]
    np.testing.assert_allclose(framewise_displacement_mm(parameters), [0, 0.45, 0.45])
    quality = motion_quality(parameters)
    assert quality["fd_mean_mm"] == pytest.approx(0.45)
    assert quality["fd_share_above_0.5mm"] == 0
    assert quality["translation_range_mm"] == pytest.approx(0.2)
    assert quality["rotation_range_deg"] == pytest.approx(np.rad2deg(0.002))
    assert motion_quality(parameters[:1])["fd_max_mm"] == 0


@pytest.fixture(scope="module")
def registration(head):
    mask = load_brain_mask()
    voxels = np.argwhere(np.asarray(mask.dataobj) > 0)
    native_mm = head.map.to_scanner(voxels @ mask.affine[:3, :3].T + mask.affine[:3, 3])
    nothing = np.zeros(anatomy.EPI_SHAPE, np.float32)
    return Registration(
        native_mm.astype(np.float32), {}, nothing, nothing > 0, nothing, nothing > 0
    )


@pytest.fixture(scope="module")
def corrected(head, volumes, aligner, found, registration):
    return moving_sampler(registration, head.affine, GRID, aligner)(volumes, found)


def test_an_unmoved_volume_gets_the_operator_of_the_run(head, volumes, aligner, registration):
    operator = sampling_operator(registration, anatomy.EPI_SHAPE, head.affine, GRID)
    still = moving_sampler(registration, head.affine, GRID, aligner)(
        volumes[..., :1], np.zeros((1, 6))
    )
    np.testing.assert_allclose(still[0], operator @ volumes[..., 0].ravel(), rtol=1e-4, atol=0.05)


def test_correction_takes_most_of_the_motion_out(head, volumes, corrected, registration):
    operator = sampling_operator(registration, anatomy.EPI_SHAPE, head.affine, GRID)
    uncorrected = (operator @ volumes.reshape(-1, len(MOTION))).T
    for volume in (2, 3, 4):
        change = np.abs(uncorrected[volume] - uncorrected[0])
        left = np.abs(corrected[volume] - corrected[0])
        assert np.median(left) < 0.85 * np.median(change)
        assert left.std() < 0.85 * change.std()


def test_a_volume_is_moved_back_as_ants_does_it(head, volumes, aligner, found, tmp_path):
    os.environ.setdefault("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "1")
    import ants

    flip = np.diag([-1.0, -1.0, 1.0])
    transform = ants.create_ants_transform(
        transform_type="AffineTransform",
        matrix=flip @ Rotation.from_rotvec(found[4, 3:]).as_matrix() @ flip,
        translation=flip @ found[4, :3],
        center=flip @ aligner.center_mm,
    )
    path = str(tmp_path / "motion.mat")
    ants.write_transform(transform, path)
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ head.affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    moving = ants.from_numpy(
        volumes[..., 4],
        origin=lps[:3, 3].tolist(),
        spacing=spacing.tolist(),
        direction=lps[:3, :3] / spacing,
    )
    theirs = ants.apply_transforms(moving, moving, [path], interpolator="linear").numpy()
    at_mm = aligner.displaced_mm(head.mm(np.argwhere(head.brain)), found[4])
    to_index = np.linalg.inv(head.affine)
    ours = trilinear_values(volumes[..., 4], at_mm @ to_index[:3, :3].T + to_index[:3, 3])
    # ANTs gives 0 where the point has left the field of view.
    inside = theirs[head.brain] > 0
    assert inside.mean() > 0.99
    np.testing.assert_allclose(ours[inside], theirs[head.brain][inside], rtol=1e-3, atol=0.5)


class Run:
    path, tr_s, shape = "run.nii", 2.0, (4, 4, 10)


def recording(times=None):
    return Recording("01", "eeg.vhdr", "run.nii", slice_times_s=times)


@pytest.mark.parametrize(
    ("order", "first", "last"),
    [("ascending", 0, 9), ("descending", 9, 0), ("interleaved", 0, 9)],
)
def test_orders_of_slices(order, first, last):
    times_s = slice_times_s(recording(), Run, order)
    assert times_s[first] == 0
    assert times_s[last] == pytest.approx(1.8)
    assert sorted(times_s) == pytest.approx(list(np.arange(10) * 0.2))
    if order == "interleaved":
        assert times_s[2] == pytest.approx(0.2)
        assert times_s[1] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("times", "message"),
    [(None, "no sidecar"), ((0.0,) * 9, "9 times, the run 10 slices"), ((2.5,) * 10, "TR is 2 s")],
)
def test_sidecars_without_usable_times_are_refused(times, message):
    with pytest.raises(DataError, match=message):
        slice_times_s(recording(times), Run, "sidecar")


def test_slices_are_shifted_to_the_middle_of_their_tr():
    """A slow wave, seen by each slice at its own time, is the same in all slices afterward."""
    times_s = slice_times_s(recording(), Run, "interleaved")
    onsets_s = 2.0 * np.arange(60)
    seen = np.sin(2 * np.pi * 0.06 * (onsets_s + times_s[:, None]))
    wanted = np.sin(2 * np.pi * 0.06 * (onsets_s + 1.0))
    volumes = np.broadcast_to(seen, (4, 4, 10, 60)).astype(np.float32)
    shifted = shift_to_mid_tr(volumes, times_s, 2.0)
    inner = slice(3, -3)
    assert np.abs(shifted - wanted)[..., inner].max() < 0.01
    assert np.abs(volumes - wanted)[..., inner].max() > 0.3
    constant = shift_to_mid_tr(np.ones((2, 2, 10, 5), np.float32), times_s, 2.0)
    np.testing.assert_allclose(constant, 1, atol=1e-5)


def test_motion_is_measured_by_default():
    assert BoldConfig().motion == "measure"
    assert BoldConfig().slice_timing == "off"
