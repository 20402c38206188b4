"""Linear maps over channels: those of MNE, whatever the signal."""

from pathlib import Path

import mne
import numpy as np
import pytest

from eeg2fmri_dist.errors import DataError
from preprocessing.artifacts.spatial_filters import interpolation, surface_laplacian
from preprocessing.layouts.noddi import CHANNELS
from preprocessing.simulation.brain.head_model import leadfield

NAMES = [name for name in CHANNELS if name not in ("ECG", "O9", "O10")]
HERE = Path("recording")


@pytest.fixture
def raw():
    signal_uv = 20 * np.random.default_rng(0).standard_normal((len(NAMES), 500))
    raw = mne.io.RawArray(1e-6 * signal_uv, mne.create_info(NAMES, 250, "eeg"), verbose="error")
    montage = mne.channels.make_standard_montage("colin27_1005")
    positions = {name: montage.get_positions()["ch_pos"][name] for name in NAMES}
    raw.set_montage(mne.channels.make_dig_montage(positions, coord_frame="head"), verbose="error")
    return raw


def test_interpolation_is_that_of_mne(raw):
    ours = interpolation(NAMES, ["C3", "P4"], HERE) @ raw.get_data(units="uV")
    raw.info["bads"] = ["C3", "P4"]
    raw.interpolate_bads(verbose="error")
    np.testing.assert_allclose(ours, raw.get_data(units="uV"), atol=0.01)


def test_laplacian_is_that_of_mne_but_for_its_unit(raw):
    ours = surface_laplacian(NAMES, HERE) @ raw.get_data(units="uV")
    theirs = mne.preprocessing.compute_current_source_density(raw, verbose="error").get_data()
    ratio = (ours * theirs).sum() / (theirs**2).sum()
    np.testing.assert_allclose(ours, ratio * theirs, atol=1e-4 * ours.std())
    assert ours.std() == pytest.approx(20, rel=0.3)  # of the size of uV


def test_laplacian_does_not_depend_on_the_reference(raw):
    signal_uv = raw.get_data(units="uV")
    laplacian = surface_laplacian(NAMES, HERE)
    other = laplacian @ (signal_uv - signal_uv[NAMES.index("Cz")])
    np.testing.assert_allclose(other, laplacian @ signal_uv, atol=1e-3)


def test_laplacian_undoes_much_of_the_spread_of_sources():
    field = leadfield(np.random.default_rng(0), np.random.default_rng(1))
    kept = [name for name in CHANNELS if name != "ECG"]

    def likeness(topographies):
        return np.abs(np.corrcoef(topographies.T))[np.triu_indices(field.shape[1], 1)].mean()

    assert likeness(surface_laplacian(kept, HERE) @ field) < 0.7 * likeness(field)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda names: interpolation(names, ["C3"], HERE), r"C3.* cannot be interpolated"),
        (
            lambda names: surface_laplacian(names, HERE),
            r"no surface Laplacian \(eeg.spatial_filter\)",
        ),
    ],
)
def test_places_that_are_not_known(act, message):
    with pytest.raises(DataError, match=message + ": the places of Elsewhere"):
        act(["C3", "Cz", "Elsewhere"])
