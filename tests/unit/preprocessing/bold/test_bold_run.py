"""BOLD runs on disk: what is accepted, what is refused and how."""

import gzip

import nibabel as nib
import numpy as np
import pytest

from eeg2fmri_dist.errors import DataError
from preprocessing.bold.bold_run import open_bold

AFFINE = np.diag([-3.3, 3.3, 4.0, 1.0])


@pytest.fixture
def write(tmp_path):
    def write_run(shape=(6, 7, 5, 12), tr_s=2.16, affine=AFFINE, values=None, name="bold.nii.gz"):
        rng = np.random.default_rng(0)
        data = rng.integers(100, 900, shape).astype(np.int16) if values is None else values
        image = nib.Nifti1Image(data, affine)
        image.set_sform(affine, code=1)
        image.header.set_xyzt_units("mm", "sec")
        image.header.set_zooms((*image.header.get_zooms()[:3], *([tr_s] * (len(shape) - 3))))
        path = tmp_path / name
        image.to_filename(path)
        return path

    return write_run


def test_volumes_are_those_of_nibabel_with_scaling(tmp_path):
    rng = np.random.default_rng(1)
    image = nib.Nifti1Image(rng.normal(500, 50, (5, 6, 4, 40)), AFFINE)
    image.set_data_dtype(np.int16)
    image.header.set_zooms((3.3, 3.3, 4.0, 2.0))
    image.to_filename(tmp_path / "scaled.nii.gz")
    run = open_bold(tmp_path / "scaled.nii.gz")
    ours = np.concatenate(list(run.blocks(first=3)), axis=3)
    reference = nib.load(tmp_path / "scaled.nii.gz").get_fdata()[..., 3:]
    np.testing.assert_allclose(ours, reference, rtol=1e-5)
    np.testing.assert_allclose(run.mean(3), reference.mean(axis=3), rtol=1e-5)
    assert (run.tr_s, run.n_volumes) == (2.0, 40)


def test_milliseconds_in_the_header_are_understood(write, tmp_path):
    image = nib.load(write(tr_s=2160.0))
    image.header.set_xyzt_units("mm", "msec")
    image.to_filename(tmp_path / "ms.nii.gz")
    assert open_bold(tmp_path / "ms.nii.gz").tr_s == pytest.approx(2.16)


def test_the_given_tr_wins_and_the_mismatch_is_reported(write):
    run = open_bold(write(tr_s=1.79), tr_s=2.0)
    assert run.tr_s == 2.0
    assert "1.79" in run.tr_mismatch
    assert open_bold(write(tr_s=2.0), tr_s=2.0).tr_mismatch == ""


def test_a_tr_of_zero_needs_one_from_elsewhere(write):
    with pytest.raises(DataError, match="repetition time of 0"):
        open_bold(write(tr_s=0.0))
    assert open_bold(write(tr_s=0.0), tr_s=2.0).tr_s == 2.0


@pytest.mark.parametrize("name", ["bold.nii.gz", "bold.nii"])
@pytest.mark.parametrize("kept", [0.5, 0.01])
def test_a_truncated_file_is_refused(write, name, kept):
    path = write(shape=(20, 20, 10, 12), name=name)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(DataError, match="damaged") as caught:
        open_bold(path).mean()
    assert str(path) in str(caught.value)


def test_a_flipped_byte_in_a_compressed_file_is_refused(write):
    path = write(shape=(20, 20, 10, 12))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DataError, match="damaged"):
        open_bold(path).mean()


def test_an_affine_of_zeros_is_refused(write, tmp_path):
    # nibabel does not write such a header; scanners' converters have.
    raw = bytearray(gzip.decompress(write().read_bytes()))
    header = nib.Nifti1Header(bytes(raw[:348]))
    header["sform_code"] = 1
    for row in ("srow_x", "srow_y", "srow_z"):
        header[row] = 0
    raw[:348] = header.binaryblock
    path = tmp_path / "zeros.nii.gz"
    path.write_bytes(gzip.compress(bytes(raw)))
    with pytest.raises(DataError, match="affine is singular"):
        open_bold(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"not an image", "not a NIfTI"), (b"", "not a NIfTI"), (None, "no such BOLD file")],
)
def test_what_is_no_nifti_is_refused(tmp_path, content, message):
    path = tmp_path / "bold.nii.gz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        open_bold(path)


def test_an_anatomical_image_is_refused(write):
    with pytest.raises(DataError, match="4 dimensions, this file has 3"):
        open_bold(write(shape=(6, 7, 5)))


def test_too_few_volumes_are_refused(write):
    with pytest.raises(DataError, match="5 volumes, of which the first 5 are dropped"):
        open_bold(write(shape=(6, 7, 5, 5)), dummy_scans=5)


def test_values_that_are_not_finite_are_refused_by_volume(write):
    values = np.random.default_rng(0).uniform(1, 9, (6, 7, 5, 40)).astype(np.float32)
    values[1, 2, 3, 35] = np.nan
    path = write(shape=values.shape, values=values)
    with pytest.raises(DataError, match="volume 35 holds NaN"):
        open_bold(path).mean()


def test_a_run_of_one_value_is_refused(write):
    with pytest.raises(DataError, match="volume 0 is the same everywhere"):
        open_bold(write(values=np.full((6, 7, 5, 12), 7, np.int16))).mean()


def test_an_empty_volume_among_others_is_refused_by_number(write):
    values = np.random.default_rng(0).integers(1, 9, (6, 7, 5, 40)).astype(np.int16)
    values[..., 35] = 0
    with pytest.raises(DataError, match="volume 35 is the same everywhere"):
        open_bold(write(values=values)).mean()
