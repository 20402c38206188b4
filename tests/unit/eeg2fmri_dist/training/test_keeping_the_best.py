"""Which checkpoint a training keeps as the best, and when it gives up."""

import pytest

from eeg2fmri_dist.config.train import OptimisationConfig, TrainConfig
from eeg2fmri_dist.training.loop import Progress, Trainer
from eeg2fmri_dist.training.validation import ValidationScores

START = {"33": 0.40, "34": 0.50, "35": 0.45}


@pytest.fixture
def trainer():
    """A trainer of which only what it keeps is there; it started at `START`."""
    trainer = Trainer.__new__(Trainer)
    trainer.config = TrainConfig.model_construct(optimisation=OptimisationConfig())
    trainer.progress = Progress()
    assert trainer.note_score(scores_of(START))
    trainer.progress.start_by_subject = START
    return trainer


def scores_of(by_subject):
    return ValidationScores({}, sum(by_subject.values()) / len(by_subject), by_subject)


def gain(*gains):
    """Scores of subjects who gained so much over the start."""
    return scores_of({who: r + more for (who, r), more in zip(START.items(), gains, strict=True)})


def test_a_gain_of_one_subject_does_not_replace_the_start(trainer):
    assert not trainer.note_score(gain(0.03, 0.0, -0.01))
    assert trainer.progress.best_score == pytest.approx(0.45)


def test_a_gain_of_all_replaces_it_and_the_highest_is_kept_from_then_on(trainer):
    assert trainer.note_score(gain(0.02, 0.03, 0.02))
    assert not trainer.note_score(gain(0.02, 0.02, 0.02))
    assert trainer.note_score(gain(0.03, 0.03, 0.03))
    assert trainer.progress.best_score == pytest.approx(0.48)


def test_a_score_that_rises_is_not_stale_though_the_start_is_kept(trainer):
    for more in (0.01, 0.02, 0.03):
        assert not trainer.note_score(gain(3 * more, 0.0, -more))
        assert trainer.progress.stale_validations == 0
    assert not trainer.note_score(gain(0.01, 0.0, 0.0))
    assert trainer.progress.stale_validations == 1


def test_without_a_start_worth_keeping_the_highest_is_kept(trainer):
    trainer.progress = Progress()
    kept = [trainer.note_score(gain(more, 0, -more / 2)) for more in (0.02, 0.01, 0.03)]
    assert kept == [True, False, True]
    assert trainer.progress.best_score == trainer.progress.highest_score
