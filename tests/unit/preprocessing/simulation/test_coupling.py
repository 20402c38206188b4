"""Can the coupling be found again in the written files, by other means than the suite's own?"""

import mne
import nibabel as nib
import numpy as np
import pytest
from nilearn.glm.first_level import glover_hrf
from scipy.signal import detrend

from eeg2fmri_dist.config.simulate import SimulateConfig
from preprocessing.simulation import load_truth, simulate_subject

TR_S, N_VOLUMES, FIRST = 2.16, 120, 5
# Region -> band (Hz) of its strongest coupling, electrodes above it, sign.
EXPECTED = {
    "occipital pole": ((8, 13), {"left": ["O1", "PO3"], "right": ["O2", "PO4"]}, -1),
    "lateral occipital": ((8, 13), {"left": ["PO7", "P7"], "right": ["PO8", "P8"]}, -1),
    "central": ((13, 30), {"left": ["C3", "CP3"], "right": ["C4", "CP4"]}, -1),
    "dorsolateral prefrontal": ((4, 8), {"left": ["F3", "AF3"], "right": ["F4", "AF4"]}, 1),
    "superior temporal": ((1, 4), {"left": ["T7", "TP7"], "right": ["T8", "TP8"]}, 1),
}


@pytest.fixture(scope="module", params=[1.0, 0.0], ids=["coupled", "null"])
def correlations(request, tmp_path_factory):
    config = SimulateConfig(
        output=tmp_path_factory.mktemp("coupling"),
        subjects=["39"],
        n_volumes=N_VOLUMES,
        sfreq_hz=500,
        coupling=request.param,
    )
    files = simulate_subject(config, "39")
    truth = load_truth(files.truth_path)
    run = np.asarray(nib.load(files.bold_path).dataobj)
    raw = mne.io.read_raw_brainvision(files.raw_path, preload=True, verbose="error")
    names = list(truth["region_names"])
    found = []
    for region, (band_hz, channels, sign) in EXPECTED.items():
        for side in ("left", "right"):
            inside = truth["labels_native"] == names.index(f"{side} {region}") + 1
            bold = run[inside].mean(axis=0)
            predicted = _predicted(raw, channels[side], band_hz)
            found.append(sign * np.corrcoef(_clean(predicted), _clean(bold))[0, 1])
    return request.param, np.array(found), truth


def _predicted(raw, channels, band_hz):
    """Band power within each TR after a Hilbert transform, convolved with Glover's HRF."""
    band = raw.copy().pick(channels).filter(*band_hz, verbose="error")
    power = (np.abs(band.apply_hilbert(verbose="error").get_data()) ** 2).mean(axis=0)
    onsets_s = raw.annotations.onset[raw.annotations.description == "Response/R128"]
    starts = np.rint(onsets_s * raw.info["sfreq"]).astype(int)
    length = round(TR_S * raw.info["sfreq"])
    per_volume = np.array([power[start : start + length].mean() for start in starts])
    hrf = glover_hrf(TR_S, oversampling=1)
    padded = np.concatenate([np.full(20, per_volume.mean()), per_volume])
    return np.convolve(padded, hrf)[20 : 20 + len(per_volume)]


def _clean(course):
    return detrend(course[FIRST:])


def test_band_power_predicts_regional_bold_only_if_coupled(correlations):
    coupling, found, _ = correlations
    if coupling:
        assert found.mean() > 0.4
        assert (found > 0.1).all()
    else:
        assert abs(found.mean()) < 0.12


def test_noise_ceiling_is_the_share_that_the_eeg_shows(correlations):
    coupling, _, truth = correlations
    if coupling:
        driven, measured = (truth[key][:, 3] for key in ("bold_driven", "bold_measured"))
        expected = np.corrcoef(_clean(driven), _clean(measured))[0, 1]
        assert truth["noise_ceiling"][3] == pytest.approx(expected, abs=1e-3)
        assert 0.8 < truth["noise_ceiling"].mean() < 1
    else:
        assert not truth["noise_ceiling"].any()
        assert not truth["weights"].any()


def test_null_bold_moves_as_much(correlations):
    _, _, truth = correlations
    neural = truth["bold_driven"] + truth["bold_hidden"]
    np.testing.assert_allclose(neural.std(axis=0), 1.5, rtol=0.02)
