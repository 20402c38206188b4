"""How recordings are grouped into shards never matters, and no flipped byte goes unseen."""

import itertools
import tempfile
from pathlib import Path

import h5py
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from eeg2fmri_dist.store import Layout, LeftOut, RecordingEntry, Store, merge, verify, write_shard
from eeg2fmri_dist.store.joining import append_stores, merge_stores

GRID = (3, 4, 2)
LAYOUT = Layout(
    channel_names=("Fz", "Cz"),
    frequencies_hz=np.array([4.0, 8.0, 12.0]),
    eeg_unit="uV^2",
    mask=np.ones(GRID, bool),
    affine=np.eye(4),
    atlases={},
    preprocessing={},
    versions={},
    space="MNI152NLin6Asym",
)
lengths = st.lists(st.integers(1, 9), min_size=1, max_size=6)
compressions = st.sampled_from(["none", "gzip"])


def write_shards(folder, counts, compression):
    """One shard for each count; returns their paths and all data in order."""
    rng = np.random.default_rng(sum(counts))
    eeg = rng.gamma(2.0, size=(sum(counts), 2, 3)).astype(np.float32)
    bold = rng.normal(size=(sum(counts), *GRID)).astype(np.float32)
    shards, start = [], 0
    for number, count in enumerate(counts):
        path = Path(folder) / f"{compression}-{number}.h5"
        entry = RecordingEntry(str(number), "", "", 2.0, 0, count)
        rows = slice(start, start + count)
        write_shard(path, LAYOUT, entry, eeg[rows], bold[rows], compression)
        shards.append(path)
        start += count
    return shards, eeg, bold


@settings(max_examples=25, deadline=None)
@given(counts=lengths, data=st.data(), compression=compressions)
def test_any_split_into_shards_merges_to_the_same_store(counts, data, compression):
    with tempfile.TemporaryDirectory() as folder:
        shards, eeg, bold = write_shards(folder, counts, compression)
        at_once, in_steps = Path(folder) / "at_once.h5", Path(folder) / "in_steps.h5"
        merge(shards, at_once)
        cut = data.draw(st.integers(1, len(shards)))
        merge(shards[:cut], in_steps)
        for shard in shards[cut:]:
            merge([in_steps, shard], in_steps)
        first, second = Store(at_once), Store(in_steps)
        assert first.fingerprint == second.fingerprint
        assert first.recordings == second.recordings
        start = data.draw(st.integers(0, sum(counts)))
        stop = data.draw(st.integers(start, sum(counts)))
        for store in (first, second):
            np.testing.assert_array_equal(store.eeg(start, stop), eeg[start:stop])
            np.testing.assert_array_equal(store.bold(start, stop), bold[start:stop])
        with h5py.File(in_steps) as file:
            np.testing.assert_array_equal(file["bold"], bold)
        ends = np.cumsum([entry.n_samples for entry in second.recordings])
        assert [entry.first_sample for entry in second.recordings] == [0, *ends[:-1]]
        assert verify(in_steps) == []


@settings(max_examples=12, deadline=None)
@given(counts=lengths, data=st.data(), compression=compressions)
def test_stores_merged_in_any_grouping_are_the_same_store(counts, data, compression):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shards, eeg, bold = write_shards(folder, counts, compression)
        merge(shards, folder / "at_once.h5")
        ends = data.draw(st.lists(st.integers(1, len(shards)), unique=True).map(sorted))
        edges = sorted({0, *ends, len(shards)})
        groups = []
        for first, last in itertools.pairwise(edges):
            groups.append(folder / f"group-{first}.h5")
            left_out = [LeftOut(f"sub-{first}", "excluded", "held"), LeftOut("sub-x", "failed", "")]
            merge(shards[first:last], groups[-1], left_out=left_out)
        merged = merge_stores(groups, folder / "merged.h5")
        appended = append_stores(groups[0], groups[1:]) if groups[1:] else merged
        for store in (merged, appended):
            assert store.fingerprint == Store(folder / "at_once.h5").fingerprint
            assert [entry.recording for entry in store.left_out] == ["sub-x"]
            np.testing.assert_array_equal(store.eeg(0, len(eeg)), eeg)
            np.testing.assert_array_equal(store.bold(0, len(bold)), bold)
            assert verify(store.path) == []
        assert not list(folder.glob(".*"))


@settings(max_examples=60, deadline=None)
@given(
    data=st.data(),
    dataset=st.sampled_from(["eeg", "bold", "bold_mean", "bold_std"]),
    bits=st.integers(1, 255),
)
def test_no_changed_byte_of_a_chunk_goes_unseen(data, dataset, bits):
    with tempfile.TemporaryDirectory() as folder:
        shards, _, _ = write_shards(folder, [3, 2], "none")
        path = Path(folder) / "store.h5"
        merge(shards, path)
        with h5py.File(path) as file:
            chunks = []
            file[dataset].id.chunk_iter(chunks.append)
        chunk = data.draw(st.sampled_from(chunks))
        offset = chunk.byte_offset + data.draw(st.integers(0, chunk.size - 1))
        content = bytearray(path.read_bytes())
        content[offset] ^= bits
        path.write_bytes(content)
        row = chunk.chunk_offset[0]
        first_of_second = 3 if dataset in ("eeg", "bold") else 1
        key = "sub-0" if row < first_of_second else "sub-1"
        (problem,) = verify(path)
        assert problem.startswith(f"/{dataset}")
        assert key in problem
        if dataset in ("eeg", "bold"):
            assert f"sample {row} " in problem


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_store_with_a_changed_byte_in_gzip_is_never_taken_for_another(data):
    with tempfile.TemporaryDirectory() as folder:
        (path, *_), _, bold = write_shards(folder, [4], "gzip")
        with h5py.File(path) as file:
            chunks = []
            file["bold"].id.chunk_iter(chunks.append)
        chunk = data.draw(st.sampled_from(chunks))
        content = bytearray(path.read_bytes())
        content[chunk.byte_offset + data.draw(st.integers(0, chunk.size - 1))] ^= data.draw(
            st.integers(1, 255)
        )
        path.write_bytes(content)
        # Unused bits at the end of a compressed chunk may change without changing a value.
        if verify(path) == []:
            np.testing.assert_array_equal(Store(path).bold(0, 4), bold)
