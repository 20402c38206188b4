"""Which checkpoint a training keeps as the best, and when it gives up."""

import pytest

from eeg2fmri_dist.training.progress import Progress
from eeg2fmri_dist.training.validation import ValidationScores

START = {"33": 0.40, "34": 0.50, "35": 0.45}
MARGIN = 1.0  # standard errors


@pytest.fixture
def progress():
    """The progress of a training that started at `START`."""
    progress = Progress()
    assert progress.note_score(scores_of(START), MARGIN)
    progress.start_by_subject = START
    return progress


def scores_of(by_subject):
    return ValidationScores({}, sum(by_subject.values()) / len(by_subject), by_subject)


def gain(*gains):
    """Scores of subjects who gained so much over the start."""
    return scores_of({who: r + more for (who, r), more in zip(START.items(), gains, strict=True)})


def test_a_gain_of_one_subject_does_not_replace_the_start(progress):
    assert not progress.note_score(gain(0.03, 0.0, -0.01), MARGIN)
    assert progress.best_score == pytest.approx(0.45)


def test_a_gain_of_all_replaces_it_and_the_highest_is_kept_from_then_on(progress):
    assert progress.note_score(gain(0.02, 0.03, 0.02), MARGIN)
    assert not progress.note_score(gain(0.02, 0.02, 0.02), MARGIN)
    assert progress.note_score(gain(0.03, 0.03, 0.03), MARGIN)
    assert progress.best_score == pytest.approx(0.48)


def test_a_score_that_rises_is_not_stale_though_the_start_is_kept(progress):
    for more in (0.01, 0.02, 0.03):
        assert not progress.note_score(gain(3 * more, 0.0, -more), MARGIN)
        assert progress.stale_validations == 0
    assert not progress.note_score(gain(0.01, 0.0, 0.0), MARGIN)
    assert progress.stale_validations == 1


def test_without_a_start_worth_keeping_the_highest_is_kept():
    progress = Progress()
    kept = [progress.note_score(gain(more, 0, -more / 2), MARGIN) for more in (0.02, 0.01, 0.03)]
    assert kept == [True, False, True]
    assert progress.best_score == progress.highest_score
