"""Where linear models lose what the EEG shows: an experiment on simulated subjects.

`python -m eeg2fmri_dist.experiments.error_decomposition CONFIG KEY=VALUE ... --truth FOLDER` scores
on the test subjects what stands between the noise ceiling and ridge regression, one loss after the
other: volumes become tokens; weights have to be learned from other subjects; they act on the EEG
instead of on its sources; they are learned from BOLD with noise.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eeg2fmri_dist.config import load_config
from eeg2fmri_dist.config.model import PrincipalComponentsConfig, RidgeConfig
from eeg2fmri_dist.config.train import TrainConfig
from eeg2fmri_dist.data.normalization import fit_scaling, polynomial_basis
from eeg2fmri_dist.data.splits import PARTS, Segment, make_split
from eeg2fmri_dist.data.windows import WindowData
from eeg2fmri_dist.errors import ConfigError, SuiteError
from eeg2fmri_dist.evaluation.baselines.noise_ceiling import Ceiling, read_truth
from eeg2fmri_dist.evaluation.scored_set import load_recording
from eeg2fmri_dist.evaluation.significance import Interval, subject_interval
from eeg2fmri_dist.files.atomic import write_json
from eeg2fmri_dist.models.eeg_features import EegFeatures
from eeg2fmri_dist.models.least_squares import Sums, solve_ridge
from eeg2fmri_dist.models.principal_components import PrincipalComponents
from eeg2fmri_dist.models.ridge import shape_weightings
from eeg2fmri_dist.scores.networks import regional_correlation, regional_means
from eeg2fmri_dist.scores.temporal import DETREND_ORDER, detrend
from eeg2fmri_dist.store import Store
from eeg2fmri_dist.training.fitting.ridge import make_ridge
from eeg2fmri_dist.training.ridge_sums import segment_features
from eeg2fmri_dist.training.store_facts import store_regions

FEATURES = ("sources", "EEG")
TARGETS = ("BOLD without noise", "measured BOLD")


@dataclass(frozen=True)
class Step:
    """How well test subjects are predicted with some of the losses.

    Attributes
    ----------
    name : str
        What is predicted, from what.
    train_subjects : int or None
        People that weights were learned from; None where none were.
    r_region : Interval
        Mean over regions of the correlation with the measured BOLD, over test subjects.
    r_driven : Interval
        The same with the BOLD that the EEG shows, without noise.
    """

    name: str
    train_subjects: int | None
    r_region: Interval
    r_driven: Interval


@dataclass(frozen=True)
class _Recording:
    """A recording: features (volume, feature), regional targets and tokens (volume, region)."""

    subject: str
    features: dict[str, Tensor]
    targets: dict[str, Tensor]
    through_tokens: Tensor


class ErrorDecomposition:
    """Simulated recordings, their truth, and what can be learned from either.

    Parameters
    ----------
    config : TrainConfig
        Of ridge regression: store, split, and how the EEG is normalized. Everything is fitted to
        regions, with one penalty that validation subjects choose.
    truth : Path
        Folder with the truth of the simulated subjects.

    Raises
    ------
    ConfigError
        If the config is of another model, or leaves the scale of the EEG open.
    DataError
        If a subject's truth is missing, damaged or shorter than the recording.
    """

    def __init__(self, config: TrainConfig, truth: Path):
        if not isinstance(config.model, RidgeConfig):
            raise ConfigError(
                f"the model is {config.model.name}, not ridge",
                where="model.name",
                remedy="give a config of ridge regression, such as configs/train/ridge.yaml",
            )
        if config.data.eeg_scale == "auto":
            raise ConfigError(
                "auto would let every line of the table choose anew",
                where="data.eeg_scale",
                remedy="choose log or power",
            )
        self._config, self._truth, self._store = config, truth, Store(config.store)
        self._split = make_split(self._store.recordings, config.split)
        self._scaling = fit_scaling(self._store, self._split.train, config.data)
        self._regions = store_regions(self._store)
        self._components = self._fit_components()
        ridge = make_ridge(self._store, config.data.context, config.model)
        self._ridge, self._source_filters = ridge, self._filter_sources()
        self._weightings = {
            "EEG": ridge.weightings(),
            "sources": shape_weightings(self._source_filters),
        }
        self._recordings = {part: self._read(self._split.part(part)) for part in PARTS}

    def climb(self, counts: Sequence[int]) -> list[Step]:
        """Score every step, those that are learned with each number of training subjects.

        Raises
        ------
        ConfigError
            If the split has fewer training subjects.
        """
        known = list(dict.fromkeys(each.subject for each in self._recordings["train"]))
        if max(counts) > len(known):
            raise ConfigError(
                f"there are {len(known)} training subjects, not {max(counts)}",
                where="--train-subjects",
                remedy=f"give {len(known)} or fewer",
            )
        test, size = self._recordings["test"], self._components.d_token
        ceiling = [each.targets[TARGETS[0]] for each in test]
        tokens = [each.through_tokens for each in test]
        return [
            self._score("noise ceiling", None, ceiling),
            self._score(f"noise ceiling in {size} principal components", None, tokens),
        ] + [
            self._score(
                f"{features}, {target}", count, self._learn(features, target, known[:count])
            )
            for features in FEATURES
            for target in TARGETS
            for count in counts
        ]

    def _learn(self, features: str, target: str, subjects: Sequence[str]) -> list[Tensor]:
        """Learn a target from features of some subjects; return predictions of the test set."""

        def sums(recordings: Sequence[_Recording]) -> Sums:
            shape = (
                recordings[0].features[features].shape[1],
                recordings[0].targets[target].shape[1],
            )
            total = Sums.empty_for(torch.zeros(shape))
            for each in recordings:
                seen, wanted = each.features[features], each.targets[target]
                basis = polynomial_basis(len(seen), self._config.data.detrend_order)
                total.add_recording(seen, [wanted], trend=torch.from_numpy(basis))
            return total

        train = [each for each in self._recordings["train"] if each.subject in subjects]
        weights = solve_ridge(
            sums(train), sums(self._recordings["validation"]), self._weightings[features]
        ).coefficients
        return [each.features[features] @ weights for each in self._recordings["test"]]

    def _score(self, name: str, count: int | None, series: Sequence[Tensor]) -> Step:
        """Compare predictions of the test recordings with both targets."""
        found: dict[str, dict[str, list[float]]] = {target: {} for target in TARGETS}
        for each, predicted in zip(self._recordings["test"], series, strict=True):
            straight = detrend(predicted.numpy(), DETREND_ORDER)
            for target, by_subject in found.items():
                true = each.targets[target].numpy()
                r = regional_correlation(straight, true)
                by_subject.setdefault(each.subject, []).append(r)
        driven, measured = (
            subject_interval([float(np.mean(values)) for values in by_subject.values()])
            for by_subject in found.values()
        )
        return Step(name, count, measured, driven)

    def _fit_components(self) -> PrincipalComponents:
        data = self._windows(self._split.train)
        components = PrincipalComponents(
            self._store.layout.grid, PrincipalComponentsConfig().d_token
        )
        components.fit(
            torch.from_numpy(data.segment_bold(number, 0, length))
            for number, length in enumerate(data.lengths)
        )
        return components

    def _read(self, segments: Sequence[Segment]) -> list[_Recording]:
        data = self._windows(segments)
        return [
            self._read_one(segment, segment_features(self._ridge, data, number))
            for number, segment in enumerate(segments)
        ]

    def _read_one(self, segment: Segment, eeg: Tensor) -> _Recording:
        layout, reference = self._store.layout, self._scaling.reference
        recording = load_recording(self._store, segment, self._regions)
        driven = Ceiling(self._truth, layout, reference)(recording)
        return _Recording(
            subject=recording.subject,
            features={"EEG": eeg, "sources": self._source_features(recording.subject, len(eeg))},
            targets={
                "BOLD without noise": self._percent(driven),
                "measured BOLD": self._percent(recording.true),
            },
            through_tokens=self._percent(self._through_tokens(driven)),
        )

    def _source_features(self, subject: str, n_volumes: int) -> Tensor:
        """Band power (volume, feature) of the simulated sources, through the filters of ridge."""
        power = read_truth(self._truth / f"sub-{subject}.npz", ("band_power",))["band_power"]
        standard = torch.from_numpy((power - power.mean(axis=0)) / power.std(axis=0)).float()
        first = int(self._store.layout.settings.get("dummy_scans", 0))
        return self._source_filters(standard[None])[0, first : first + n_volumes]

    def _filter_sources(self) -> EegFeatures:
        """Return the filters of ridge for the sources of any subject."""
        subject = self._store.recordings[0].subject
        shape = read_truth(self._truth / f"sub-{subject}.npz", ("band_power",))["band_power"].shape
        return EegFeatures(*shape[1:], tr_s=self._store.recordings[0].tr_s)

    def _through_tokens(self, volumes: np.ndarray) -> np.ndarray:
        """Encode and decode volumes as targets of a Transformer are."""
        reference, fraction = self._scaling.reference, self._scaling.fraction
        scale = reference * fraction
        seen = np.divide(volumes - reference, scale, out=np.zeros_like(volumes), where=scale > 0)
        return reference + scale * self._components(torch.from_numpy(seen)).numpy()

    def _percent(self, volumes: np.ndarray) -> Tensor:
        """Detrended change (volume, region) of regional means, in percent of their mean."""
        means = regional_means(volumes, self._regions.labels, len(self._regions))
        return torch.from_numpy(100 * detrend(means, DETREND_ORDER) / means.mean(axis=0))

    def _windows(self, segments: Sequence[Segment]) -> WindowData:
        mapped = self._config.data.model_copy(update={"cache": "mapped"})
        return WindowData(self._store, segments, mapped, self._scaling)


def describe(steps: Sequence[Step]) -> list[str]:
    """Return the lines of a table: share of the ceiling, r with measured and noise-free BOLD."""
    highest = steps[0].r_region.mean
    lines = [f"{'':<42}  subjects  r      of ceiling  noise-free"]
    for step in steps:
        count = "" if step.train_subjects is None else step.train_subjects
        r, driven = step.r_region.mean, step.r_driven.mean
        lines.append(f"{step.name:<42}  {count:>8}  {r:.3f}  {r / highest:>10.2f}  {driven:.3f}")
    return lines


def main(arguments: list[str] | None = None) -> int:
    """Climb the ladder that the command line describes."""
    parser = argparse.ArgumentParser(
        prog="python -m eeg2fmri_dist.experiments.error_decomposition",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", type=Path, help="training config of ridge regression")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="such as store=...")
    parser.add_argument("--truth", type=Path, required=True, help="truth of the simulated subjects")
    parser.add_argument(
        "--train-subjects", type=int, nargs="+", default=[8], help="numbers of subjects; default: 8"
    )
    parser.add_argument("--output", type=Path, help="JSON file that gets the numbers")
    options: Any = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        config = load_config(TrainConfig, options.config, options.overrides)
        steps = ErrorDecomposition(config, options.truth).climb(options.train_subjects)
    except SuiteError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print("\n".join(describe(steps)))
    if options.output:
        write_json(options.output, [asdict(step) for step in steps])
    return 0


if __name__ == "__main__":
    sys.exit(main())
