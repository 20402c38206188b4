"""The sparse operator against ANTs' own two steps, and as a linear map."""

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from preprocessing.bold.registration import Registration
from preprocessing.bold.resampling import grid_mask, sampling_operator, trilinear_operator
from preprocessing.template.mni import grid_affine, load_brain_mask

GRID = (64, 64, 30)
NATIVE_SHAPE = (64, 64, 30)
NATIVE_AFFINE = np.array(
    [[-3.3, 0.0, 0.2, 104.0], [0.0, 3.28, -0.4, -118.0], [0.1, 0.4, 3.98, -58.0], [0, 0, 0, 1.0]]
)
# Scanner mm -> MNI mm: a few degrees, some scaling, a shift.
TO_MNI = np.array(
    [[1.02, 0.04, 0.0, 1.5], [-0.05, 0.98, 0.06, -3.0], [0.0, -0.07, 1.03, 4.0], [0, 0, 0, 1.0]]
)


@pytest.fixture(scope="module")
def registration():
    mask = load_brain_mask()
    voxels = np.argwhere(np.asarray(mask.dataobj) > 0)
    mni = voxels @ mask.affine[:3, :3].T + mask.affine[:3, 3]
    back = np.linalg.inv(TO_MNI)
    nothing = np.zeros(NATIVE_SHAPE, np.float32)
    native_mm = mni @ back[:3, :3].T + back[:3, 3]
    return Registration(native_mm, {}, nothing, nothing > 0, nothing, nothing > 0)


@pytest.fixture(scope="module")
def operator(registration):
    return sampling_operator(registration, NATIVE_SHAPE, NATIVE_AFFINE, GRID)


def ants_two_steps(volume, tmp_path):
    """Warp to 2 mm, mask, resize: three calls of ANTs."""
    os.environ.setdefault("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "1")
    import ants

    flip = np.diag([-1.0, -1.0, 1.0, 1.0])

    def image(values, affine):
        lps = flip @ affine
        spacing = np.linalg.norm(lps[:3, :3], axis=0)
        return ants.from_numpy(
            values.astype(np.float32),
            origin=lps[:3, 3].tolist(),
            spacing=spacing.tolist(),
            direction=lps[:3, :3] / spacing,
        )

    mask = load_brain_mask()
    brain = image(np.asarray(mask.dataobj), mask.affine)
    back = flip @ np.linalg.inv(TO_MNI) @ flip
    transform = ants.create_ants_transform(
        transform_type="AffineTransform", matrix=back[:3, :3], translation=back[:3, 3]
    )
    path = str(tmp_path / "affine.mat")
    ants.write_transform(transform, path)
    warped = ants.apply_transforms(brain, image(volume, NATIVE_AFFINE), [path])
    target = image(np.zeros(GRID), grid_affine(GRID))
    return ants.resample_image_to_target(warped * brain, target, interp_type="linear").numpy()


def test_one_operator_equals_ants_two_steps(operator, tmp_path):
    rng = np.random.default_rng(0)
    # Noise has the steepest gradients; smooth volumes would hide a shift.
    volume = rng.uniform(0, 600, NATIVE_SHAPE).astype(np.float32)
    mask = grid_mask(GRID)
    ours = operator @ volume.ravel()
    theirs = ants_two_steps(volume, tmp_path)[mask]
    assert np.abs(ours - theirs).max() < 0.05
    assert np.corrcoef(ours, theirs)[0, 1] > 0.999999


def test_the_operator_is_a_weighted_mean_inside_the_brain(operator):
    constant = operator @ np.ones(np.prod(NATIVE_SHAPE))
    assert constant.max() <= 1 + 1e-5
    inside = np.isclose(constant, 1, atol=1e-5)
    assert inside.mean() > 0.6
    assert (operator.data >= 0).all()


@settings(max_examples=25, deadline=None)
@given(
    shape=st.tuples(st.integers(2, 6), st.integers(2, 6), st.integers(2, 6)),
    seed=st.integers(0, 100),
)
def test_interpolation_equals_scipy_with_itk_borders(shape, seed):
    rng = np.random.default_rng(seed)
    volume = rng.standard_normal(shape)
    points = rng.uniform(-2, 7, (60, 3))
    ours = trilinear_operator(points, shape) @ volume.ravel()
    last = np.array(shape) - 1
    clamped = np.clip(points, 0, last)
    expected = map_coordinates(volume, clamped.T, order=1)
    outside = ((points < -0.5) | (points > last + 0.5)).any(axis=1)
    np.testing.assert_allclose(ours, np.where(outside, 0, expected), atol=1e-12)


def test_the_grid_mask_has_the_volume_of_the_brain():
    voxel_mm3 = abs(np.linalg.det(grid_affine(GRID)[:3, :3]))
    brain_mm3 = np.asarray(load_brain_mask().dataobj).sum() * 8
    assert grid_mask(GRID).sum() * voxel_mm3 == pytest.approx(brain_mm3, rel=0.02)
