"""Who trains, who chooses, who is scored."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eeg2fmri_dist.config.train import SplitConfig
from eeg2fmri_dist.data.splits import Segment, Split, find_leaks, make_split, require_no_leak
from eeg2fmri_dist.errors import ConfigError, DataError


def recordings(runs_per_subject, n_samples=20):
    entries, first = [], 0
    for number, runs in enumerate(runs_per_subject):
        for _ in range(runs):
            entries.append(
                SimpleNamespace(
                    subject=f"{number:02d}",
                    key=f"sub-{number:02d}",
                    first_sample=first,
                    n_samples=n_samples,
                    sources=(),
                )
            )
            first += n_samples
    return entries


def subjects_of(entries, segments):
    return {entries[segment.recording].subject for segment in segments}


def samples_of(split):
    return [
        sample
        for part in (split.train, split.validation, split.test)
        for segment in part
        for sample in range(segment.start, segment.stop)
    ]


def test_sixteen_subjects_split_as_in_the_paper():
    split = make_split(recordings([1] * 16, n_samples=295), SplitConfig())
    counts = [
        sum(segment.stop - segment.start for segment in part)
        for part in (split.train, split.validation, split.test)
    ]
    assert counts == [2360, 1180, 1180]


@given(
    runs=st.lists(st.integers(1, 3), min_size=3, max_size=20),
    seed=st.none() | st.integers(0, 1000),
)
def test_by_subject_uses_every_sample_once_and_never_shares_a_subject(runs, seed):
    entries = recordings(runs)
    split = make_split(entries, SplitConfig(seed=seed))
    assert sorted(samples_of(split)) == list(range(20 * sum(runs)))
    parts = [subjects_of(entries, part) for part in (split.train, split.validation, split.test)]
    assert all(parts)
    assert sum(map(len, parts)) == len(set.union(*parts))
    assert not split.leaks


@given(runs=st.lists(st.integers(1, 3), min_size=1, max_size=8))
def test_by_sample_uses_every_sample_once_and_says_that_it_leaks(runs):
    split = make_split(recordings(runs), SplitConfig(name="by_sample"))
    assert sorted(samples_of(split)) == list(range(20 * sum(runs)))
    assert split.leaks


@given(count=st.integers(1, 8), seed=st.none() | st.integers(0, 99))
def test_fewer_training_subjects_leave_the_other_parts_as_they_are(count, seed):
    entries = recordings([2] * 16)
    whole = make_split(entries, SplitConfig(seed=seed))
    part = make_split(entries, SplitConfig(seed=seed, train_subjects=count))
    assert (part.validation, part.test) == (whole.validation, whole.test)
    chosen = subjects_of(entries, part.train)
    assert len(chosen) == count
    # Nested: one more subject changes nothing else.
    if count < 8:
        more = make_split(entries, SplitConfig(seed=seed, train_subjects=count + 1))
        assert chosen < subjects_of(entries, more.train)


def test_more_training_subjects_than_there_are_are_refused():
    with pytest.raises(ConfigError, match=r"split\.train_subjects is 9, but only 8 subjects"):
        make_split(recordings([1] * 16), SplitConfig(train_subjects=9))


def test_leave_one_subject_out_tests_only_that_subject():
    entries = recordings([1, 2, 1, 1])
    config = SplitConfig(name="leave_one_subject_out", test_subject="01")
    split = make_split(entries, config)
    assert subjects_of(entries, split.test) == {"01"}
    assert len(split.test) == 2
    assert "01" not in subjects_of(entries, split.train + split.validation)


@given(
    n_subjects=st.integers(4, 20),
    folds=st.integers(2, 6),
    seed=st.none() | st.integers(0, 1000),
)
def test_k_fold_leaves_every_subject_out_once(n_subjects, folds, seed):
    folds = min(folds, n_subjects // 2)
    entries = recordings([1] * n_subjects)
    splits = [
        make_split(entries, SplitConfig(name="k_fold", folds=folds, fold=fold, seed=seed))
        for fold in range(folds)
    ]
    left_out = [subject for split in splits for subject in subjects_of(entries, split.test)]
    assert sorted(left_out) == sorted(subjects_of(entries, sum((s.test for s in splits), ())))
    assert len(left_out) == n_subjects
    sizes = [len(split.test) for split in splits]
    assert max(sizes) - min(sizes) <= 1
    for split in splits:
        assert sorted(samples_of(split)) == list(range(20 * n_subjects))
        parts = [subjects_of(entries, part) for part in (split.train, split.validation)]
        assert all(parts)
        assert not set.union(*parts) & subjects_of(entries, split.test)
        assert not parts[0] & parts[1]


def test_more_folds_than_subjects_are_refused():
    with pytest.raises(DataError, match="at least 5 subjects, the store has 3"):
        make_split(recordings([1, 1, 1]), SplitConfig(name="k_fold", folds=5, fold=0))


def test_a_fold_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match=r"split.fold = 4 is not below folds = 4"):
        SplitConfig(name="k_fold", folds=4, fold=4)


def test_too_few_subjects_are_refused():
    with pytest.raises(DataError, match="at least 3 subjects, the store has 2"):
        make_split(recordings([1, 1]), SplitConfig())


def test_an_unknown_left_out_subject_is_refused():
    config = SplitConfig(name="leave_one_subject_out", test_subject="99")
    with pytest.raises(ConfigError, match="99"):
        make_split(recordings([1, 1, 1]), config)


def test_a_recording_that_is_there_under_two_names_is_refused():
    entries = recordings([1] * 4)
    entries[0].sources = (SimpleNamespace(path="a.nii.gz", sha256="1"),)
    entries[3].sources = (SimpleNamespace(path="b.nii.gz", sha256="1"),)
    with pytest.raises(DataError, match=r"b\.nii\.gz of sub-03 \(test\) is the same file as a"):
        make_split(entries, SplitConfig())
    entries[3].sources = (SimpleNamespace(path="b.nii.gz", sha256="2"),)
    assert find_leaks(entries, make_split(entries, SplitConfig())) == []


@pytest.mark.parametrize("name", ["x.vhdr", "x.vmrk", "x_channels.tsv", "x_events.tsv", "x.json"])
def test_equal_descriptions_of_two_recordings_are_no_leak(name):
    entries = recordings([1] * 4)
    for entry in entries:
        entry.sources = (SimpleNamespace(path=f"{entry.subject}{name}", sha256="1"),)
    assert find_leaks(entries, make_split(entries, SplitConfig())) == []


def test_shared_subjects_and_samples_are_named():
    entries = recordings([2, 1])
    split = Split((Segment(0, 0, 20),), (Segment(1, 20, 40),), (Segment(0, 15, 20),), leaks=False)
    assert find_leaks(entries, split) == [
        "subject 00 is in train and in validation",
        "subject 00 is in train and in test",
        "samples 15 to 19 are in train and in test",
    ]
    with pytest.raises(DataError, match="the split leaks"):
        require_no_leak(entries, split)


def test_a_split_that_says_that_it_leaks_is_let_through_and_its_leaks_can_be_named():
    entries = recordings([1, 1])
    split = make_split(entries, SplitConfig(name="by_sample"))
    require_no_leak(entries, split)
    assert "subject 00 is in train and in test" in find_leaks(entries, split)
