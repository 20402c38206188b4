"""Region labels: found where they are said to be, else parcels."""

import nibabel as nib
import numpy as np
import pytest

from eeg2fmri_dist.config.preprocess import AtlasConfig
from eeg2fmri_dist.errors import ConfigError, DataError
from preprocessing.bold.resampling import grid_mask
from preprocessing.template.atlas import CORTICAL, SUBCORTICAL, atlas_identity, load_atlases
from preprocessing.template.mni import grid_affine, load_brain_mask

GRID = (32, 32, 16)


@pytest.fixture(autouse=True)
def no_installed_atlas(monkeypatch, tmp_path):
    for variable in ("FSLDIR", "NILEARN_DATA", "NILEARN_SHARED_DATA"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def write_cortical(folder, highest=48):
    """Labels that rise with x in the template's grid: a voxel's label tells where it lies."""
    template = load_brain_mask()
    labels = np.zeros(template.shape, np.int16)
    labels[...] = np.linspace(1, highest, template.shape[0]).round()[:, None, None]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "HarvardOxford-cort-maxprob-thr25-2mm.nii.gz"
    # FSL stores x from right to left.
    flipped = template.affine @ np.diag([-1, 1, 1, 1])
    flipped[0, 3] = -template.affine[0, 3]
    nib.Nifti1Image(labels[::-1], flipped).to_filename(path)
    return labels


def test_there_are_as_many_names_as_labels_in_fsl():
    assert len(set(CORTICAL)) == 48
    assert len(set(SUBCORTICAL)) == 21
    assert SUBCORTICAL[0] == "Left Cerebral White Matter"
    assert SUBCORTICAL[20] == "Right Accumbens"


def test_labels_are_the_nearest_ones_in_mni_space(tmp_path):
    labels = write_cortical(tmp_path / "atlas")
    mask = grid_mask(GRID)
    atlas = load_atlases(AtlasConfig(path=tmp_path / "atlas"), GRID, mask)
    ours = atlas["harvard_oxford_cortical"]
    assert "Harvard-Oxford" in ours.source
    template, affine = load_brain_mask(), grid_affine(GRID)
    for voxel in np.argwhere(mask)[::97]:
        mm = affine @ [*voxel, 1]
        x = round(float((np.linalg.inv(template.affine) @ mm)[0]))
        assert abs(int(ours.labels[tuple(voxel)]) - int(labels[x, 0, 0])) <= 1
    assert (ours.labels[~mask] == 0).all()


def test_fsldir_is_looked_at(tmp_path, monkeypatch):
    write_cortical(tmp_path / "fsl" / "data" / "atlases" / "HarvardOxford")
    monkeypatch.setenv("FSLDIR", str(tmp_path / "fsl"))
    assert "harvard_oxford_cortical" in atlas_identity(AtlasConfig())


def test_without_an_atlas_parcels_cover_the_mask_symmetrically_and_say_so():
    mask = grid_mask(GRID)
    parcels = load_atlases(AtlasConfig(), GRID, mask)["parcels"]
    assert "parcels" in parcels.source
    assert ((parcels.labels > 0) == mask).all()
    n_regions = len(parcels.names) - 1
    half = n_regions // 2
    symmetric = mask & mask[::-1]
    left = parcels.labels[: GRID[0] // 2][symmetric[: GRID[0] // 2]]
    right = parcels.labels[::-1][: GRID[0] // 2][symmetric[: GRID[0] // 2]]
    assert (left <= half).all()
    assert (right == left + half).all()
    assert np.bincount(parcels.labels[mask], minlength=n_regions + 1)[1:].min() > 0
    again = load_atlases(AtlasConfig(), GRID, mask)["parcels"]
    assert (again.labels == parcels.labels).all()


def test_a_configured_folder_without_the_atlas_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="HarvardOxford-cort"):
        load_atlases(AtlasConfig(path=tmp_path), GRID, grid_mask(GRID))


def test_a_file_with_other_labels_is_refused(tmp_path):
    write_cortical(tmp_path, highest=60)
    with pytest.raises(DataError, match="labels up to 60"):
        load_atlases(AtlasConfig(path=tmp_path), GRID, grid_mask(GRID))
