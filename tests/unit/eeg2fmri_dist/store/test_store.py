"""The store as plain h5py sees it, damage, full disks and killed writers."""

import dataclasses
import json
import multiprocessing
import pickle
import signal
import subprocess
import sys
import textwrap
import zlib

import h5py
import nibabel as nib
import numpy as np
import pytest

from eeg2fmri_dist.errors import DataError, LaunchError, StoreError
from eeg2fmri_dist.store import (
    FORMAT,
    FORMAT_VERSION,
    Atlas,
    Layout,
    RecordingEntry,
    SourceFile,
    Store,
    merge,
    verify,
    write_shard,
)
from eeg2fmri_dist.store.__main__ import main

GRID = (6, 5, 4)


def make_layout(**changes):
    labels = np.zeros(GRID, np.int16)
    labels[2:4] = 1
    layout = Layout(
        channel_names=("Fp1", "Cz", "O1"),
        frequencies_hz=np.array([1.0, 2.0]),
        eeg_unit="uV^2",
        mask=labels > 0,
        affine=np.diag([3.0, 3.5, 4.0, 1.0]),
        atlases={"parcels": Atlas(labels, ("Background", "Whole"), "cut from the mask")},
        preprocessing={"eeg": {"band_hz": [1.0, 30.0]}},
        versions={"numpy": "2.0"},
        space="MNI152NLin6Asym",
    )
    return dataclasses.replace(layout, **changes)


def make_entry(subject, n_samples):
    return RecordingEntry(
        subject=subject,
        session="",
        run="01",
        tr_s=2.16,
        first_sample=0,
        n_samples=n_samples,
        sources=(SourceFile(f"sub-{subject}/eeg.vhdr", 123, "ab" * 32),),
        quality={"dice": 0.95, "transform": "syn", "accepted": True, "fwd_mm": float("nan")},
    )


def make_data(n_samples, seed, layout=None):
    rng = np.random.default_rng(seed)
    layout = layout or make_layout()
    shape = (len(layout.channel_names), len(layout.frequencies_hz))
    eeg = rng.gamma(2.0, size=(n_samples, *shape)).astype(np.float32)
    bold = rng.normal(100, 5, size=(n_samples, *layout.grid)).astype(np.float32)
    return eeg, bold * layout.mask


@pytest.fixture
def recordings(tmp_path):
    """Three shards, the store merged from them, and the arrays that went in."""
    shards, eegs, bolds = [], [], []
    for seed, (subject, n_samples) in enumerate([("32", 4), ("33", 6), ("35", 3)]):
        eeg, bold = make_data(n_samples, seed)
        shards.append(tmp_path / f"sub-{subject}.h5")
        write_shard(shards[-1], make_layout(), make_entry(subject, n_samples), eeg, bold)
        eegs.append(eeg)
        bolds.append(bold)
    path = tmp_path / "store.h5"
    merge(shards, path)
    return path, shards, np.concatenate(eegs), np.concatenate(bolds)


def place_of(path, values):
    """Byte offset at which these float32 values lie in the file."""
    return path.read_bytes().index(np.ascontiguousarray(values, "<f4").tobytes())


def flip(path, offset, bits=0x10):
    content = bytearray(path.read_bytes())
    content[offset] ^= bits
    path.write_bytes(content)


def test_plain_h5py_reads_all_of_it(recordings):
    path, _, eeg, bold = recordings
    with h5py.File(path) as file:
        assert file.attrs["format"] == FORMAT
        assert file.attrs["version"] == FORMAT_VERSION
        assert json.loads(file.attrs["preprocessing"]) == {"eeg": {"band_hz": [1.0, 30.0]}}
        assert json.loads(file.attrs["versions"]) == {"numpy": "2.0"}
        assert file.attrs["space"] == "MNI152NLin6Asym"
        np.testing.assert_array_equal(file["eeg"], eeg)
        np.testing.assert_array_equal(file["bold"], bold)
        assert file["bold"].chunks == (1, *GRID)
        assert file["bold"].maxshape == (None, *GRID)
        assert [axis.label for axis in file["bold"].dims] == ["sample", "x", "y", "z"]
        assert list(file["eeg"].attrs["channel_names"]) == ["Fp1", "Cz", "O1"]
        assert list(file["eeg"].attrs["frequencies_hz"]) == [1.0, 2.0]
        assert file["eeg"].attrs["unit"] == "uV^2"
        np.testing.assert_array_equal(file["mask"], make_layout().mask)
        np.testing.assert_array_equal(file["affine"], make_layout().affine)
        np.testing.assert_array_equal(
            file["atlas/parcels"], make_layout().atlases["parcels"].labels
        )
        assert list(file["atlas/parcels"].attrs["names"]) == ["Background", "Whole"]
        table = file["recordings"][()]
        assert [row["subject"].decode() for row in table] == ["32", "33", "35"]
        assert table["first_sample"].tolist() == [0, 4, 10]
        assert table["n_samples"].tolist() == [4, 6, 3]
        assert json.loads(table[1]["sources"])[0]["size"] == 123
        assert json.loads(table[1]["quality"])["dice"] == 0.95
        assert json.loads(table[1]["quality"])["fwd_mm"] is None
        for name in ("eeg", "bold", "bold_mean", "bold_std"):
            expected = [zlib.crc32(row.tobytes()) for row in file[name][()]]
            assert file[f"checksums/{name}"][()].tolist() == expected


def test_statistics_are_those_of_numpy(recordings):
    path, _, _, bold = recordings
    store = Store(path)
    np.testing.assert_allclose(store.bold_mean(1), bold[4:10].mean(0, np.float64), rtol=1e-6)
    np.testing.assert_allclose(
        store.bold_std(1), bold[4:10].std(0, dtype=np.float64), rtol=1e-5, atol=1e-6
    )


def test_windows_are_read_only_views_of_what_h5py_reads(recordings):
    path, _, eeg, bold = recordings
    store = Store(path)
    assert store.is_mapped
    assert store.n_samples == 13
    assert store.grid == GRID
    window = store.bold(2, 12)
    np.testing.assert_array_equal(window, bold[2:12])
    np.testing.assert_array_equal(store.eeg(0, 13), eeg)
    assert window.dtype == np.float32
    assert not window.flags.writeable
    assert store.bold(5, 5).shape == (0, *GRID)
    assert np.shares_memory(window, store.bold(0, 13))
    store.close()
    np.testing.assert_array_equal(window, bold[2:12])
    with pytest.raises(IndexError):
        store.bold(10, 14)


def test_chunks_in_any_order_are_read_right(recordings):
    path, _, _, bold = recordings
    with h5py.File(path, "r+") as file:
        del file["bold"]
        scattered = file.create_dataset("bold", bold.shape, "<f4", chunks=(1, *GRID))
        for index in [1, 0, 2, 3, 12, 11, 10, 9, 4, 5, 6, 7, 8]:
            scattered.id.write_direct_chunk((index, 0, 0, 0), bold[index].tobytes())
    store = Store(path)
    assert store.is_mapped
    for start in range(13):
        for stop in range(start, 14):
            np.testing.assert_array_equal(store.bold(start, stop), bold[start:stop])


def test_gzip_holds_the_same_contents(recordings, tmp_path):
    path, _, eeg, bold = recordings
    shards = []
    for subject, start, stop in (("32", 0, 4), ("33", 4, 10), ("35", 10, 13)):
        shards.append(tmp_path / f"gzip-{subject}.h5")
        entry = make_entry(subject, stop - start)
        write_shard(
            shards[-1], make_layout(), entry, eeg[start:stop], bold[start:stop], compression="gzip"
        )
    merge(shards, tmp_path / "gzip.h5")
    compressed, plain = Store(tmp_path / "gzip.h5"), Store(path)
    assert not compressed.is_mapped
    assert compressed.fingerprint == plain.fingerprint
    assert verify(compressed.path) == []
    np.testing.assert_array_equal(compressed.bold(3, 12), plain.bold(3, 12))
    np.testing.assert_array_equal(compressed.eeg(0, 13), plain.eeg(0, 13))
    np.testing.assert_array_equal(compressed.bold_std(2), plain.bold_std(2))


def test_entries_and_layout_come_back(recordings):
    path, shards, _, _ = recordings
    store = Store(path)
    entry = dataclasses.replace(make_entry("33", 6), first_sample=4)
    assert store.recordings[1].key == "sub-33_run-01"
    assert dataclasses.replace(store.recordings[1], quality={}) == dataclasses.replace(
        entry, quality={}
    )
    quality = store.recordings[1].quality
    assert np.isnan(quality.pop("fwd_mm"))
    assert quality == {"dice": 0.95, "transform": "syn", "accepted": True}
    assert store.layout.channel_names == ("Fp1", "Cz", "O1")
    assert store.layout.mask.dtype == bool
    assert store.layout.atlases["parcels"].source == "cut from the mask"
    assert Store(shards[1]).recordings[0].first_sample == 0


def test_place_of_sources_and_versions_do_not_change_the_fingerprint(tmp_path):
    eeg, bold = make_data(2, 0)
    entry = make_entry("32", 2)
    moved = dataclasses.replace(entry, sources=(SourceFile("elsewhere", 123, "ab" * 32),))
    write_shard(tmp_path / "a.h5", make_layout(), entry, eeg, bold)
    write_shard(tmp_path / "b.h5", make_layout(versions={"numpy": "3"}), moved, eeg, bold)
    bold[1, 3, 3, 3] += 1
    write_shard(tmp_path / "c.h5", make_layout(), entry, eeg, bold)
    prints = [Store(tmp_path / name).fingerprint for name in ("a.h5", "b.h5", "c.h5")]
    assert prints[0] == prints[1] != prints[2]


def test_store_survives_pickling_and_forking(recordings, tmp_path):
    path, _, _, bold = recordings
    store = Store(path)
    again = pickle.loads(pickle.dumps(store))
    np.testing.assert_array_equal(again.bold(0, 13), bold)
    context = multiprocessing.get_context("fork")
    with context.Pool(2) as pool:
        for window in pool.starmap(store.bold, [(0, 3), (3, 13)]):
            assert len(window) in (3, 10)
    np.testing.assert_array_equal(store.bold(0, 13), bold)


def test_store_replaced_while_pickled_is_noticed(recordings):
    path, shards, _, _ = recordings
    pickled = pickle.dumps(Store(path))
    merge(shards[:2], path)
    with pytest.raises(StoreError, match="replaced"):
        pickle.loads(pickled).bold(0, 1)


@pytest.mark.parametrize("dataset", ["eeg", "bold", "bold_mean", "bold_std"])
def test_a_flipped_bit_is_found_and_named(recordings, dataset):
    path, _, _, _ = recordings
    with h5py.File(path) as file:
        last = file[dataset][-1]
    assert verify(path) == []
    # Some voxels lie outside the mask, so the whole row is what is unique.
    flip(path, place_of(path, last) + last.nbytes - 1)
    problems = verify(path)
    assert len(problems) == 1
    assert dataset in problems[0]
    assert "sub-35_run-01" in problems[0]
    if dataset in ("eeg", "bold"):
        assert "sample 12 " in problems[0]
        assert "its sample 2" in problems[0]


def change_subject(file):
    row = file["recordings"][1]
    row["subject"] = "34"
    file["recordings"][1] = row


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(change_subject, id="recordings"),
        pytest.param(lambda file: file["mask"].write_direct(np.ones(GRID, "u1")), id="mask"),
        pytest.param(lambda file: file["affine"].write_direct(np.eye(4)), id="affine"),
        pytest.param(lambda file: file.attrs.modify("space", "native"), id="space"),
        pytest.param(lambda file: file.attrs.modify("preprocessing", "{}"), id="preprocessing"),
        pytest.param(lambda file: file.attrs.modify("fingerprint", "0"), id="fingerprint"),
        pytest.param(lambda file: file["eeg"].attrs.modify("unit", "V^2"), id="unit"),
        pytest.param(lambda file: file["bold"].resize(12, axis=0), id="count"),
        pytest.param(lambda file: file.__delitem__("checksums/bold"), id="no checksums"),
        pytest.param(lambda file: file.__delitem__("eeg"), id="no eeg"),
    ],
)
def test_a_changed_description_is_found(recordings, change):
    path, _, _, _ = recordings
    with h5py.File(path, "r+") as file:
        change(file)
    assert verify(path) != []


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.99])
def test_truncated_file_is_refused(recordings, share):
    path, _, _, _ = recordings
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(StoreError, match=r"truncated|not an HDF5 file") as caught:
        Store(path)
    assert caught.value.exit_code == 3
    assert "store.h5" in str(caught.value)
    assert "What to do" in str(caught.value)
    assert verify(path) != []


def test_other_version_other_format_and_no_file_are_refused(recordings, tmp_path):
    path, _, _, _ = recordings
    with h5py.File(path, "r+") as file:
        file.attrs["version"] = 2
    with pytest.raises(StoreError, match="version 2; this suite reads version 1"):
        Store(path)
    with h5py.File(path, "r+") as file:
        file.attrs["format"] = "something else"
    with pytest.raises(StoreError, match="not a store of this suite"):
        Store(path)
    with pytest.raises(StoreError, match="no such store"):
        Store(tmp_path / "absent.h5")


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("which", [0, 1])
def test_values_that_are_not_finite_are_refused(tmp_path, which, value):
    data = make_data(3, 0)
    data[which][1].flat[5] = value
    with pytest.raises(DataError, match="sample 1") as caught:
        write_shard(tmp_path / "shard.h5", make_layout(), make_entry("32", 3), *data)
    assert "sub-32_run-01" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_shapes_that_disagree_are_refused(tmp_path):
    eeg, bold = make_data(3, 0)
    for wrong in ((eeg[:2], bold), (eeg, bold[:, :-1]), (eeg[:, :1], bold)):
        with pytest.raises(DataError, match="expected"):
            write_shard(tmp_path / "shard.h5", make_layout(), make_entry("32", 3), *wrong)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"channel_names": ("Fp1", "Cz", "O2")}, "channel names"),
        ({"frequencies_hz": np.array([1.0, 3.0])}, "frequencies"),
        ({"affine": np.eye(4)}, "affines"),
        ({"mask": np.ones(GRID, bool)}, "masks"),
        ({"atlases": {}}, "parcels"),
        ({"preprocessing": {"eeg": {"band_hz": [1.0, 40.0]}}}, "settings eeg.band_hz differ"),
        ({"space": "native"}, "spaces"),
    ],
)
def test_shards_that_do_not_fit_are_refused_by_name(recordings, tmp_path, changes, named):
    path, shards, _, _ = recordings
    before = path.read_bytes()
    other = tmp_path / "other.h5"
    write_shard(other, make_layout(**changes), make_entry("40", 2), *make_data(2, 9))
    with pytest.raises(StoreError, match=named) as caught:
        merge([*shards, other], path)
    assert "other.h5" in str(caught.value)
    assert path.read_bytes() == before


def test_merge_refuses_a_recording_twice_and_a_damaged_shard(recordings, tmp_path):
    _, shards, _, _ = recordings
    with pytest.raises(StoreError, match=r"sub-32_run-01 is in sub-32\.h5 already"):
        merge([shards[0], shards[1], shards[0]], tmp_path / "twice.h5")
    flip(shards[2], place_of(shards[2], Store(shards[2]).bold(1, 2)))
    with pytest.raises(StoreError, match="row 1 of bold does not match its checksum") as caught:
        merge(shards, tmp_path / "damaged.h5")
    assert "sub-35.h5" in str(caught.value)
    shards[1].write_bytes(shards[1].read_bytes()[:-5000])
    with pytest.raises(StoreError, match=r"sub-33\.h5"):
        merge(shards, tmp_path / "damaged.h5")
    with pytest.raises(StoreError, match="no shards"):
        merge([], tmp_path / "none.h5")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [*(shard.name for shard in shards), "store.h5"]
    )


def test_merge_can_give_other_atlases(recordings, tmp_path):
    _, shards, _, _ = recordings
    labels = np.ones(GRID, np.int16)
    whole = Atlas(labels, ("Background", "All"), "test")
    merge(shards, tmp_path / "store.h5", {"whole": whole, "again": whole})
    store = Store(tmp_path / "store.h5")
    assert list(store.layout.atlases) == ["whole", "again"]
    np.testing.assert_array_equal(store.layout.atlases["whole"].labels, labels)
    assert verify(store.path) == []
    with pytest.raises(DataError, match="not on the grid"):
        merge(shards, store.path, {"whole": Atlas(labels[:2], ("Background", "All"), "test")})


def test_other_versions_of_software_are_joined(tmp_path):
    for subject, version in (("32", "2.0"), ("33", "2.1")):
        layout = make_layout(versions={"numpy": version})
        write_shard(tmp_path / f"{subject}.h5", layout, make_entry(subject, 2), *make_data(2, 0))
    merge([tmp_path / "32.h5", tmp_path / "33.h5"], tmp_path / "store.h5")
    assert Store(tmp_path / "store.h5").layout.versions == {"numpy": "2.0, 2.1"}


WRITER = """
    import os, resource, signal, sys
    import numpy as np
    sys.path.insert(0, sys.argv[1])
    from test_store import make_data, make_entry, make_layout
    from eeg2fmri_dist.errors import SuiteError
    from eeg2fmri_dist.store import writing
    {before}
    try:
        data = make_data(400, 0)
        writing.write_shard(sys.argv[2], make_layout(), make_entry("32", 400), *data)
    except SuiteError as error:
        print(error)
        sys.exit(error.exit_code)
"""


def run_writer(before, path, folder):
    code = textwrap.dedent(WRITER).format(before=before)
    command = [sys.executable, "-c", code, str(folder), str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "moment", ["contents.create_rows", "contents.write_recordings", "os.replace"]
)
def test_a_killed_writer_leaves_the_old_file(tmp_path, request, moment):
    path = tmp_path / "shard.h5"
    write_shard(path, make_layout(), make_entry("32", 2), *make_data(2, 5))
    before = path.read_bytes()
    setting = f"writing.{moment} = lambda *_: os.kill(os.getpid(), signal.SIGKILL)"
    done = run_writer(setting, path, request.path.parent)
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == before


@pytest.mark.parametrize("limit_bytes", [0, 5_000, 120_000])
def test_a_full_disk_is_said_so_and_leaves_nothing(tmp_path, request, limit_bytes):
    limit = f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit_bytes}, {limit_bytes}))"
    done = run_writer(limit, tmp_path / "shard.h5", request.path.parent)
    assert done.returncode == LaunchError.exit_code, done.stderr
    assert "no space left" in done.stdout
    assert "needs 201,600 bytes" in done.stdout
    assert list(tmp_path.iterdir()) == []


MERGER = """
import os, resource, signal, sys
from eeg2fmri_dist.errors import SuiteError
from eeg2fmri_dist.store import copying, writing
{before}
try:
    writing.merge(sys.argv[2:], sys.argv[1])
except SuiteError as error:
    print(error)
    sys.exit(error.exit_code)
"""


def run_merger(before, path, shards):
    code = MERGER.format(before=before)
    command = [sys.executable, "-c", code, str(path), *map(str, shards)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("moment", ["copying._read_checked", "copying._hand_over", "os.replace"])
def test_a_killed_merge_leaves_the_old_store(recordings, moment):
    path, shards, _, _ = recordings
    before = path.read_bytes()
    done = run_merger(f"{moment} = lambda *_: os.kill(os.getpid(), 9)", path, shards)
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == before


def test_a_disk_that_fills_while_rows_are_copied_leaves_the_old_store(recordings):
    path, shards, _, _ = recordings
    before, files = path.read_bytes(), sorted(path.parent.iterdir())
    full = """
def limited_copy_rows(*given, copy_rows=writing.copy_rows):
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    copy_rows(*given)
writing.copy_rows = limited_copy_rows
"""
    done = run_merger(full, path, shards)
    assert done.returncode == LaunchError.exit_code, done.stderr
    assert "no space left on the disk" in done.stdout
    assert path.read_bytes() == before
    assert sorted(path.parent.iterdir()) == files


def test_an_exported_recording_is_read_by_others(recordings, tmp_path, capsys):
    path, _, eeg, bold = recordings
    key, folder = "sub-33_run-01", tmp_path / "exported"
    assert main(["export", str(path), key, str(folder)]) == 0
    image = nib.load(folder / f"{key}_bold.nii.gz")
    volumes = np.moveaxis(image.get_fdata(dtype=np.float32), -1, 0)
    np.testing.assert_array_equal(volumes, bold[4:10])
    np.testing.assert_array_equal(image.affine, Store(path).layout.affine)
    assert image.header.get_zooms()[3] == pytest.approx(2.16)
    table = np.genfromtxt(folder / f"{key}_eeg.tsv", names=True, deletechars="")
    values = np.array(table.tolist(), np.float32).reshape(eeg[4:10].shape)
    np.testing.assert_array_equal(values, eeg[4:10])
    layout = Store(path).layout
    last = f"{layout.channel_names[-1]}_{layout.frequencies_hz[-1]:g}Hz"
    assert table.dtype.names[-1] == last
    assert json.loads((folder / f"{key}_bold.json").read_text())["RepetitionTime"] == 2.16
    assert main(["export", str(path), "sub-99", str(folder)]) == 3
    assert "there are sub-32_run-01" in capsys.readouterr().err


def test_command_line(recordings, capsys):
    path, _, _, bold = recordings
    assert main(["info", str(path)]) == 0
    text = capsys.readouterr().out
    assert "13 of 3 recordings" in text
    assert "sub-33_run-01: 6 samples from 4, TR 2.16 s" in text
    assert main(["verify", str(path)]) == 0
    flip(path, place_of(path, bold[0]))
    assert main(["verify", str(path)]) == 3
    assert "/bold, sample 0 (sub-32_run-01" in capsys.readouterr().err
