"""Predictors of known kind go through the scoring of the suite; the report must name each.

They are tiny and untrained. Recordings are simulated at the level of features.
"""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from eeg2fmri_dist.config.train import SplitConfig
from eeg2fmri_dist.data.splits import make_split
from eeg2fmri_dist.evaluation.baselines.eeg_controls import score_controls
from eeg2fmri_dist.evaluation.evaluate import score_baselines
from eeg2fmri_dist.evaluation.report.page import render_html
from eeg2fmri_dist.evaluation.results import DataFacts, Origin, ReportInput, RunSection
from eeg2fmri_dist.evaluation.scored_set import Scope, read_scored_set
from eeg2fmri_dist.evaluation.verdict import Finding, verdict
from eeg2fmri_dist.models.hrf import canonical_hrf
from eeg2fmri_dist.store import Store
from tests.helpers.stores import CHANNELS, REGIONS, make_layout, make_store


@dataclass(frozen=True)
class Scored:
    """What all impostors are scored on."""

    scored_set: object
    baselines: list

    def run(self, predict):
        rows = score_controls(predict, self.scored_set)
        return RunSection("impostor", "default", "impostor", 1, rows)

    def verdict(self, predict):
        return verdict(self.run(predict), self.baselines)


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    path = make_store(tmp_path_factory.mktemp("store") / "store.h5", n_subjects=10, n_volumes=80)
    store = Store(path)
    split = make_split(store.recordings, SplitConfig(fractions=(0.4, 0.2, 0.4)))
    scored_set = read_scored_set(store, split, Scope(ssim_every=40))
    return Scored(scored_set, score_baselines(scored_set))


def image_of(recording):
    return recording.true.mean(axis=0)


def from_alpha(eeg, *, ahead_trs=0, smooth_trs=0, sign=1.0):
    """Percent change over time that log alpha power predicts, the same in each voxel."""
    alpha = np.log(np.maximum(eeg[:, :, 7:12], 1e-6)).mean(axis=(1, 2))
    alpha = np.append(alpha[ahead_trs:], np.zeros(ahead_trs))
    # A window around each TR, half of it still to come.
    window = np.ones(2 * smooth_trs + 1) / (2 * smooth_trs + 1)
    alpha = np.convolve(alpha, window, mode="same")
    change = np.convolve(alpha, canonical_hrf(2.0))[: len(alpha)]
    return sign * 0.01 * change[:, None, None, None]


def of_quadrants(eeg):
    """Percent change of each quadrant that its own source predicts (`stores.make_recording`)."""
    mixing = np.abs(np.random.default_rng(7).standard_normal((len(CHANNELS), REGIONS)))
    alpha = np.log(np.maximum(eeg[:, :, 7:12], 1e-6)).mean(axis=2)
    sources = alpha @ np.linalg.pinv(mixing).T
    change = np.apply_along_axis(np.convolve, 0, sources, canonical_hrf(2.0))[: len(eeg)]
    labels = make_layout().atlases["quadrants"].labels
    return 0.01 * np.insert(change, 0, 0.0, axis=1)[:, labels]


def eeg_model(own=0.3, **options):
    """Read the EEG, show what changes on the training-like mean image of the recording."""

    def predict(recording, change):
        image, eeg = image_of(recording), change(recording.power)
        # `own`: of each quadrant, by which it is told from a global signal.
        changes = from_alpha(eeg, **options) + own * options.get("sign", 1.0) * of_quadrants(eeg)
        return (image * (1 + changes)).astype(np.float32)

    return predict


def perfect(recording, change):
    """Give the truth that belongs to the EEG: moved where the EEG is moved."""
    order = change(np.arange(len(recording.true), dtype=float))
    return recording.true[order.astype(int)]


def knows_answer(recording, change):
    return recording.true


def constant(scored):
    mean = scored.scored_set.scaling.reference
    return lambda recording, change: np.broadcast_to(mean, recording.true.shape)


def subject_only(recording, change):
    return np.broadcast_to(image_of(recording), recording.true.shape)


def last_volume(recording, change):
    return np.concatenate([recording.true[:1], recording.true[:-1]])


def next_volume(recording, change):
    return np.concatenate([recording.true[1:], recording.true[-1:]])


def wrong_way_round(recording, change):
    mean = image_of(recording)
    return 2 * mean - perfect(recording, change)


def noise(recording, change):
    rng = np.random.default_rng(recording.segment.start)
    change = 0.02 * rng.standard_normal((len(recording.true), 4))
    labels = np.indices(recording.true.shape[1:]).sum(axis=0) % 4
    return (image_of(recording) * (1 + change[:, labels])).astype(np.float32)


def test_a_model_that_works_uses_the_eeg(scored):
    decided = scored.verdict(eeg_model())
    assert decided.finding is Finding.USES_EEG
    assert decided.answer == "Yes"
    assert not any("future" in note or "perfect" in note for note in decided.notes)


def test_a_model_of_the_global_signal_is_called_that(scored):
    decided = scored.verdict(eeg_model(own=0.0))
    assert decided.finding is Finding.GLOBAL_SIGNAL
    assert decided.answer == "Yes, but"
    assert "without the global signal r is" in decided.sentence
    assert "Breathing and movement" in decided.sentence


def test_a_specific_model_in_few_subjects_is_not_called_global(scored):
    """Its intervals are wide with and without the global signal: that says nothing of it."""
    rows = score_controls(eeg_model(own=2.0), scored.scored_set)
    few = [replace(each, subjects=dict(list(each.subjects.items())[:3])) for each in rows]
    shaken = [
        with_r(few[0], (0.5, 0.3, 0.1)),
        with_r(few[1], (-0.4, 0.2, 0.05)),
    ]
    decided = verdict(RunSection("impostor", "default", "impostor", 1, shaken), scored.baselines)
    assert decided.finding is Finding.INCONCLUSIVE
    assert not any("global signal" in note for note in decided.notes)


def with_r(scored_row, values):
    subjects = {
        who: scores | {"r_region": r, "r_region_gsr": r}
        for (who, scores), r in zip(scored_row.subjects.items(), values, strict=True)
    }
    return replace(scored_row, subjects=subjects)


def test_ridge_that_works_uses_the_eeg(scored):
    rows = {row.name: row for row in scored.baselines}
    assert rows["ridge"].interval("r_region").mean > 0.3
    assert rows["ridge"].p_value < 0.01
    assert rows["ridge_shifted"].interval("r_region").mean < 0.15


def test_a_perfect_model_is_told_from_one_that_has_the_answer(scored):
    honest = scored.verdict(perfect)
    assert honest.finding is Finding.USES_EEG
    assert "r 1.00 is nearly perfect" in " ".join(honest.notes)
    cheat = scored.verdict(knows_answer)
    assert cheat.finding is Finding.WITHOUT_EEG
    assert cheat.answer == "No"
    assert "r 1.00 with the true EEG, 1.00 with circularly shifted EEG" in cheat.sentence


def test_a_constant_model_is_called_constant(scored):
    decided = scored.verdict(constant(scored))
    assert decided.finding is Finding.COLLAPSED
    assert "one constant image" in decided.sentence
    assert "are no better than those of one constant image" in " ".join(decided.notes)


def test_a_model_that_knows_the_subject_is_told_from_a_constant_one(scored):
    decided = scored.verdict(subject_only)
    assert decided.finding is Finding.KNOWS_SUBJECT
    assert decided.answer == "No"
    assert "knowledge of the subject's anatomy" in decided.sentence


def test_copies_of_neighboring_volumes_are_called_that(scored):
    past, future = scored.verdict(last_volume), scored.verdict(next_volume)
    assert past.finding is Finding.COPIES_PAST
    assert "repeats the last volume, whatever the EEG" in past.sentence
    assert future.finding is Finding.COPIES_FUTURE
    assert "the volume 1 ahead" in future.sentence
    assert past.answer == future.answer == "No"


def test_a_model_that_also_sees_later_eeg_is_called_that(scored):
    decided = scored.verdict(eeg_model(smooth_trs=3))
    assert decided.finding is Finding.SEES_FUTURE
    assert decided.answer == "Yes, but"
    assert "it also sees the future: EEG recorded after a volume changes" in decided.sentence


def test_a_model_that_is_early_by_later_eeg_is_called_that(scored):
    decided = scored.verdict(eeg_model(own=0.0, ahead_trs=3))
    words = " ".join([decided.sentence, *decided.notes])
    assert decided.answer != "Yes"
    assert "it also sees the future" in words.lower()
    assert "3 TR too early" in words


def test_a_flipped_sign_is_called_that(scored):
    for predict, turned in ((wrong_way_round, "1.00"), (eeg_model(sign=-1.0), "0.")):
        decided = scored.verdict(predict)
        assert decided.finding is Finding.INVERTED
        assert "flipped sign" in decided.sentence
        assert f"Turned round it would reach r {turned}" in decided.sentence


def test_a_model_that_makes_things_up_does_not_use_the_eeg(scored):
    decided = scored.verdict(noise)
    assert decided.answer == "No"
    assert decided.finding in (Finding.NOT_SHOWN, Finding.WANDERING)


def test_the_first_screen_names_each(scored):
    kinds = {
        "right": eeg_model(),
        "constant": constant(scored),
        "subject": subject_only,
        "past": last_volume,
        "flipped": wrong_way_round,
    }
    runs = [scored.run(predict) for predict in kinds.values()]
    facts = DataFacts(
        Origin.SIMULATED,
        "s.h5",
        "f",
        ["1"],
        ["5"],
        ["7"],
        "by_subject",
        False,
        "a",
        1,
        2,
        (1, 1, 1),
    )
    page = render_html(ReportInput("Impostors", facts, runs, scored.baselines))
    first_screen = page.partition('id="answer"')[2].partition("</section>")[0]
    for run in runs:
        assert verdict(run, scored.baselines).finding.value in first_screen
    assert "Yes for 1, no for 4 of 5 models." in first_screen
