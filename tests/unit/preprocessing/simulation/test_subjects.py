"""Simulated subjects: formats, reproducibility, truth, and what a stop leaves behind."""

import dataclasses
import hashlib
import json
import os
import signal
import subprocess
import sys
import time

import mne
import nibabel as nib
import numpy as np
import pytest
from pydantic import ValidationError
from scipy.ndimage import map_coordinates
from scipy.signal import resample_poly

from eeg2fmri_dist.config.simulate import EegSignalConfig, SimulateConfig
from eeg2fmri_dist.errors import DataError
from preprocessing.layouts.noddi import CHANNELS
from preprocessing.simulation import load_truth, plan, simulate, simulate_subject
from preprocessing.simulation.brain.activity import Timeline
from preprocessing.simulation.scanner.eeg_measurement import simulate_eeg, write_raw_recording
from preprocessing.simulation.scanner.interpolation import interpolated_blocks, interpolation_filter
from preprocessing.simulation.truth import KEYS

N_VOLUMES, TR_S = 12, 2.16


def _config(output, **keys) -> SimulateConfig:
    return SimulateConfig(output=output, **({"subjects": ["32"], "n_volumes": N_VOLUMES} | keys))


def _digests(files) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return _config(tmp_path_factory.mktemp("simulated"))


@pytest.fixture(scope="module")
def subject(config):
    return simulate_subject(config, "32")


@pytest.fixture(scope="module")
def truth(subject):
    return load_truth(subject.truth_path)


@pytest.fixture(scope="module")
def data_set(tmp_path_factory):
    """Two subjects from two processes; the header of one is stale."""
    config = _config(tmp_path_factory.mktemp("data_set"), subjects=["37", "32"], workers=2)
    return config, simulate(config)


# --- formats ---------------------------------------------------------------------------------


def test_raw_eeg_is_what_mne_expects(subject, truth):
    raw = mne.io.read_raw_brainvision(subject.raw_path, verbose="error")
    assert tuple(raw.ch_names) == CHANNELS
    assert raw.info["sfreq"] == 5000
    onsets_s = raw.annotations.onset[raw.annotations.description == "Response/R128"]
    assert len(onsets_s) == N_VOLUMES
    np.testing.assert_allclose(np.diff(onsets_s), TR_S, atol=1e-9)
    np.testing.assert_allclose(onsets_s, truth["volume_onsets_s"], atol=1e-9)
    assert "SyncStatus/Sync On" in raw.annotations.description
    assert onsets_s[0] > 5
    assert raw.times[-1] >= onsets_s[-1] + TR_S + 2


def test_export_is_the_scan_at_250_hz(subject, truth):
    assert subject.export_path.with_suffix(".dat").exists()
    export = mne.io.read_raw_brainvision(subject.export_path, verbose="error")
    assert export.info["sfreq"] == 250
    assert 0 <= export.n_times / 250 - N_VOLUMES * TR_S < 0.2
    raw = mne.io.read_raw_brainvision(subject.raw_path, preload=True, verbose="error")
    raw.resample(250, method="polyphase", verbose="error")
    first = round(truth["volume_onsets_s"][0] * 250)
    difference = raw.get_data(start=first, stop=first + export.n_times) - export.get_data()
    assert np.sqrt((difference**2).mean()) < 0.5e-6  # a rounding step of both files


def test_eeg_looks_like_eeg(subject):
    raw = mne.io.read_raw_brainvision(subject.raw_path, verbose="error")
    raw.pick(["Fz", "Oz", "C3", "T8", "P4"]).load_data()
    scalp_uv = 1e6 * raw.copy().filter(1, 30, verbose="error").get_data()
    assert 3 < np.median(scalp_uv.std(axis=1)) < 30
    spectrum = raw.compute_psd(fmax=40, n_fft=10000, picks=["Oz"], verbose="error")
    alpha = spectrum.get_data(fmin=9, fmax=11).mean()
    assert alpha > 2 * spectrum.get_data(fmin=15, fmax=25).mean()


def test_ecg_shows_the_heartbeats_of_the_truth(subject, truth):
    raw = mne.io.read_raw_brainvision(subject.export_path, preload=True, verbose="error")
    events = mne.preprocessing.find_ecg_events(raw, ch_name="ECG", verbose="error")[0]
    found_s = events[:, 0] / 250
    true_s = truth["heartbeats_s"] - truth["volume_onsets_s"][0]
    inner = true_s[(true_s > 1) & (true_s < raw.times[-1] - 1)]
    nearest = np.abs(found_s[None] - inner[:, None]).min(axis=1)
    assert np.mean(nearest < 0.05) > 0.9


def test_bold_run_has_noddi_geometry(subject):
    image = nib.load(subject.bold_path)
    assert image.shape == (64, 64, 30, N_VOLUMES)
    assert image.get_data_dtype() == np.int16
    np.testing.assert_allclose(image.header.get_zooms(), (3.3, 3.3, 4.0, TR_S), rtol=1e-6)
    assert image.header.get_xyzt_units() == ("mm", "sec")
    assert nib.aff2axcodes(image.affine) == ("L", "A", "S")
    assert np.abs(nib.affines.obliquity(image.affine)).max() > np.deg2rad(3)
    np.testing.assert_allclose(image.get_qform(), image.get_sform(), atol=1e-3)


def test_first_volumes_are_saturated(subject, truth):
    run = np.asarray(nib.load(subject.bold_path).dataobj)
    course = run[truth["brain_native"]].mean(axis=0)
    relative = course / course[6:].mean()
    assert relative[0] > 1.15
    assert relative[0] > relative[1] > relative[2] > 1.01
    assert np.abs(relative[5:] - 1).max() < 0.03


def test_t1_is_defaced(subject, truth):
    image = nib.load(subject.t1_path)
    data = np.asarray(image.dataobj)
    warp = {key: truth[key] for key in truth if "warp" in key or "affine_scanner" in key}
    brain_mm = truth["region_mni_mm"]
    nose_mm = np.array([[0.0, 82.0, -45.0]])
    voxels = [
        np.rint(
            nib.affines.apply_affine(np.linalg.inv(image.affine), _to_scanner(warp, points))
        ).astype(int)
        for points in (brain_mm, nose_mm)
    ]
    assert (data[tuple(voxels[0].T)] > 100).all()
    assert data[tuple(voxels[1].T)] == 0


# --- reproducible, resumable -----------------------------------------------------------------


@pytest.mark.slow
def test_same_bytes_whatever_the_processes_and_subjects(subject, data_set):
    _, (_, again) = data_set
    assert again.subject == "32"
    assert _digests(again.files) == _digests(subject.files)


def test_same_signal_whatever_the_threads():
    threadpoolctl = pytest.importorskip("threadpoolctl")
    timeline = Timeline(10.0 + TR_S * np.arange(5), TR_S, 24.0)
    signals = []
    for threads in (1, 2):
        with threadpoolctl.threadpool_limits(threads):
            signal_uv = simulate_eeg(0, "32", timeline, EegSignalConfig()).signal_uv
            blocks = interpolated_blocks(signal_uv.T.copy(), 20, block_length=1000)
            signals.append([signal_uv, np.rint(np.concatenate(list(blocks)))])
    for one, two in zip(*signals, strict=True):
        np.testing.assert_array_equal(one, two)


def test_subjects_and_seeds_differ(data_set):
    _, (first, second) = data_set
    weights = [load_truth(files.truth_path)["weights"] for files in (first, second)]
    assert not np.allclose(*weights)


def test_stale_header_names_files_that_do_not_exist(data_set):
    _, (stale, _) = data_set
    for header in (stale.raw_path, stale.export_path):
        binary = {"raw": ".eeg", "export": ".dat"}[header.parent.name]
        lines = dict(
            line.split("=", 1)
            for line in header.read_text(encoding="utf-8").splitlines()
            if line.startswith(("DataFile=", "MarkerFile="))
        )
        assert lines["DataFile"].endswith(binary)
        assert not any((header.parent / name).exists() for name in lines.values())
        assert header.with_suffix(binary).exists()
        assert header.with_suffix(".vmrk").exists()


def test_second_run_keeps_whole_subjects(data_set):
    config, simulated = data_set
    before = {path: path.stat().st_mtime_ns for files in simulated for path in files.files}
    simulate(config)
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.parametrize("damage", ["missing", "truncated", "no marker", "half a marker"])
def test_damaged_subjects_are_made_again(data_set, damage):
    config, (files, _) = data_set
    target = files.whole_path if "marker" in damage else files.raw_path.with_suffix(".eeg")
    content = target.read_bytes()
    try:
        if damage in ("missing", "no marker"):
            target.unlink()
        else:
            target.write_bytes(content[: len(content) // 2])
        lines = plan(config)
        assert lines[0].startswith("subject 37: about")
        assert lines[1] == "subject 32: up to date"
    finally:
        target.write_bytes(content)


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"seed": 1}, False),
        ({"coupling": 0.0}, False),
        ({"n_volumes": 13}, False),
        ({"stale_header": None}, True),  # decides nothing for subject 32
        ({"workers": 7}, True),
    ],
)
def test_settings_decide_what_is_up_to_date(config, subject, change, same):
    del subject
    changed = config.model_copy(update=change)
    line = plan(changed)[0]
    assert (line == "subject 32: up to date") is same
    assert ("to be written over: made with other settings" in line) is not same


@pytest.mark.slow
def test_interrupt_leaves_no_process_and_nothing_taken_for_whole(tmp_path):
    code = (
        "from eeg2fmri_dist.config.simulate import SimulateConfig\n"
        "from preprocessing.simulation import simulate\n"
        "if __name__ == '__main__':\n"
        f"    output = {str(tmp_path)!r}\n"
        "    simulate(SimulateConfig(output=output, subjects=['32', '35'], n_volumes=150))\n"
    )
    script = tmp_path / "script.py"
    script.write_text(code)
    process = subprocess.Popen(
        [sys.executable, script], start_new_session=True, stderr=subprocess.PIPE, text=True
    )
    try:
        _wait_for(lambda: list(tmp_path.glob("EEG1/*/raw/.*.part")))
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode not in (0, None)
    assert errors.count("Traceback") <= 1  # the parent's own
    _wait_for(lambda: not _group_is_alive(process.pid))
    assert not list(tmp_path.rglob("*.part"))
    assert not list(tmp_path.glob("truth/*.json"))
    assert len([line for line in plan(_config(tmp_path)) if "up to date" in line]) == 0


def _wait_for(condition) -> None:
    deadline = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def _group_is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


# --- truth -----------------------------------------------------------------------------------


def test_truth_has_its_documented_keys_and_shapes(truth, data_set):
    sizes = {"region": 22, "band": 4, "volume": N_VOLUMES, "beat": len(truth["heartbeats_s"])}
    for key, (shape, _) in KEYS.items():
        words = [word.strip() for word in shape.strip("()").split(",") if word.strip()]
        expected = tuple(sizes[word] if word in sizes else int(word) for word in words)
        assert truth[key].shape == expected, key
    readme = (data_set[0].output / "truth" / "README.md").read_text(encoding="utf-8")
    assert all(f"`{key}`" in readme for key in KEYS)


def test_damaged_truth_is_refused(tmp_path):
    path = tmp_path / "sub-32.npz"
    path.write_bytes(b"PK\x03\x04 half a file")
    with pytest.raises(DataError, match="truth"):
        load_truth(path)


def test_noise_free_bold_is_weights_times_hrf_power(truth):
    expected = np.einsum("vrb,rb->vr", truth["hrf_power"], truth["weights"])
    np.testing.assert_allclose(truth["bold_driven"], expected, atol=1e-5)
    np.testing.assert_allclose(truth["bold_driven"].std(axis=0), 1.5, rtol=1e-3)
    alpha = truth["population_weights"][:, list(truth["bands"]).index("alpha")]
    assert (alpha < 0).all()


def _displacement(field, affine, points):
    indices = nib.affines.apply_affine(np.linalg.inv(affine), points).T
    parts = [map_coordinates(field[..., i], indices, order=1, mode="nearest") for i in range(3)]
    return np.stack(parts, axis=-1)


def _to_scanner(truth, mni_mm):
    """As the truth's README defines the inverse."""
    affine_mm = mni_mm + _displacement(truth["inverse_warp_mm"], truth["warp_affine"], mni_mm)
    return nib.affines.apply_affine(np.linalg.inv(truth["affine_scanner_to_mni"]), affine_mm)


def test_map_and_inverse_agree(truth):
    brain = truth["brain_native"]
    scanner_mm = nib.affines.apply_affine(truth["native_affine"], np.argwhere(brain))
    mni_mm = truth["native_to_mni_mm"][brain]
    distance = np.linalg.norm(_to_scanner(truth, mni_mm) - scanner_mm, axis=1)
    assert distance.max() < 0.2
    rigid = nib.affines.apply_affine(truth["affine_scanner_to_mni"], scanner_mm)
    assert 1 < np.linalg.norm(rigid - mni_mm, axis=1).max() <= 5.01  # the warp does something


def test_template_labels_carried_by_the_map_are_the_native_labels(truth, subject):
    header_affine = nib.load(subject.bold_path).affine
    np.testing.assert_allclose(header_affine, truth["native_affine"], atol=1e-3)
    indices = nib.affines.apply_affine(
        np.linalg.inv(truth["mni_affine"]), truth["native_to_mni_mm"].reshape(-1, 3)
    )
    carried = map_coordinates(truth["labels_mni"], indices.T, order=0).reshape(64, 64, 30)
    assert (carried == truth["labels_native"]).mean() > 0.999
    assert set(np.unique(truth["labels_native"])) == set(range(23))


def test_regions_lie_in_both_hemispheres_at_their_centers(truth):
    centers = np.rint(
        nib.affines.apply_affine(np.linalg.inv(truth["mni_affine"]), truth["region_mni_mm"])
    ).astype(int)
    assert list(truth["labels_mni"][tuple(centers.T)]) == list(range(1, 23))
    sides = ["left" if x < 0 else "right" for x in truth["region_mni_mm"][:, 0]]
    assert [name.split()[0] for name in truth["region_names"]] == sides


def test_leadfield_is_strongest_near_its_region(truth):
    scalp = [name for name in CHANNELS if name != "ECG"]
    for region, near in {
        "left occipital pole": {"O1", "Oz", "O9", "PO3", "PO7"},
        "right central": {"C4", "CP4", "FC4", "C6", "CP2", "CP6"},
    }.items():
        field = truth["leadfield_uv_per_nam"][:, list(truth["region_names"]).index(region)]
        strongest = scalp[np.abs(field - np.median(field)).argmax()]
        assert strongest in near


# --- pieces ----------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [1, 2, 20])
def test_interpolation_is_scipys_polyphase(factor):
    signal = np.random.default_rng(0).standard_normal((700, 5)).astype(np.float32)
    blocks = np.concatenate(list(interpolated_blocks(signal, factor, block_length=256)))
    taps = interpolation_filter(factor) / factor if factor > 1 else np.ones(1)
    reference = resample_poly(signal.astype(float), factor, 1, axis=0, window=taps)
    np.testing.assert_allclose(blocks, reference, atol=1e-5)


def test_eeg_accompanies_irregular_volumes(tmp_path):
    header = tmp_path / "sub-01_task-rest_eeg.vhdr"
    onsets_s = 4.0 + np.array([0.0, 2.0, 4.004, 6.0])
    power = write_raw_recording(header, onsets_s, 2.0, seed=3, sfreq_hz=1000)
    assert power.shape == (4, 22, 4)
    raw = mne.io.read_raw_brainvision(header, verbose="error")
    assert len(raw.ch_names) == 64
    assert raw.times[-1] >= onsets_s[-1] + 2 + 2
    found = raw.annotations.onset[raw.annotations.description == "Response/R128"]
    np.testing.assert_allclose(found, onsets_s, atol=1e-9)


def test_plan_changes_nothing(tmp_path):
    config = _config(tmp_path / "new", subjects=["32", "40"])
    lines = plan(config)
    assert lines[2].startswith("2 of 2 subjects to simulate")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"subjects": ["32", "32"]}, "twice"),
        ({"subjects": ["../32"]}, "letters and digits"),
        ({"subjects": []}, "at least 1"),
        ({"sfreq_hz": 1100}, "multiple of 250"),
        ({"tr_s": 2.1234}, "multiple of 0.004"),
        ({"tr_s": 0}, "greater than 0"),
        ({"coupling": 1.5}, "less than or equal to 1"),
    ],
)
def test_impossible_settings_are_refused(tmp_path, keys, message):
    with pytest.raises(ValidationError, match=message):
        _config(tmp_path, **keys)


def test_numbers_are_taken_as_ids(tmp_path):
    assert _config(tmp_path, subjects=[32, 40]).subjects == ["32", "40"]


def test_files_of_a_subject_are_all_its_files(config, subject):
    listed = {path for path in subject.files} | {subject.whole_path}
    assert listed == {path for path in config.output.rglob("*") if path.is_file()}
    marker = json.loads(subject.whole_path.read_text())
    assert len(marker["bytes"]) == len(subject.files)
    assert dataclasses.is_dataclass(subject)
