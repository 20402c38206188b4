"""Index arithmetic of windows and batches, for any sizes."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from eeg2fmri_dist.data.sampler import BatchSampler, shares
from eeg2fmri_dist.data.window_index import tiling_windows, training_windows

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=5)


@given(lengths=LENGTHS, window=st.integers(1, 40))
def test_tiles_cover_each_volume_exactly_once(lengths, window):
    covered = []
    for tile in tiling_windows(lengths, window):
        stop = tile.start + min(window, lengths[tile.segment])
        assert 0 <= tile.start < stop <= lengths[tile.segment]
        covered += [(tile.segment, volume) for volume in range(stop - tile.fresh, stop)]
    assert covered == [(s, volume) for s, length in enumerate(lengths) for volume in range(length)]


@given(lengths=LENGTHS, window=st.integers(1, 40), stride=st.integers(1, 50))
def test_training_windows_stay_inside_and_reach_both_ends(lengths, window, stride):
    windows = training_windows(lengths, window, stride)
    for segment, length in enumerate(lengths):
        starts = [w.start for w in windows if w.segment == segment]
        if length < window:
            assert starts == []
            continue
        assert starts[0] == 0
        assert starts[-1] == length - window
        assert len(set(starts)) == len(starts)
        assert all(later - earlier <= stride for earlier, later in pairwise(starts))


@given(
    n_windows=st.integers(1, 60),
    batch_size=st.integers(1, 20),
    new_batch_size=st.integers(1, 20),
    cut=st.integers(0, 30),
    seed=st.integers(0, 5),
)
def test_an_interrupted_epoch_uses_each_window_once(
    n_windows, batch_size, new_batch_size, cut, seed
):
    before = BatchSampler(n_windows, batch_size, seed)
    seen = []
    while before.epoch == 0 and len(seen) < cut:
        seen += before.next_batch().tolist()
    after = BatchSampler(n_windows, new_batch_size, seed=99)
    after.load_state_dict(before.state_dict())
    while after.epoch == 0:
        coming = after.peek_batch().tolist()
        seen += after.next_batch().tolist()
        assert seen[-len(coming) :] == coming
    assert sorted(seen) == list(range(n_windows))


@given(
    size=st.integers(1, 40),
    world_size=st.integers(1, 8),
    micro_batches=st.integers(1, 4),
    seed=st.integers(0, 5),
)
def test_weighted_shares_give_the_mean_over_the_batch(size, world_size, micro_batches, seed):
    values = np.random.default_rng(seed).standard_normal(size)
    total = 0.0
    for rank in range(world_size):
        for share in shares(np.arange(size), rank, world_size, micro_batches):
            total += share.weight * values[share.indices].mean()
    # Gradients are averaged over ranks and micro-batches.
    np.testing.assert_allclose(total / (world_size * micro_batches), values.mean(), atol=1e-12)


def test_epochs_are_shuffled_differently_and_reproducibly():
    first, second = BatchSampler(50, 50, seed=1), BatchSampler(50, 50, seed=1)
    one, two = first.next_batch(), first.next_batch()
    assert one.tolist() != two.tolist()
    assert one.tolist() == second.next_batch().tolist()
