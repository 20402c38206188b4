"""Config of sweeps: what is searched or compared, by which rule, on which machines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from eeg2fmri_dist.config.base import Schema
from eeg2fmri_dist.config.names import former_names
from eeg2fmri_dist.config.names.renamed import KeysOf
from eeg2fmri_dist.config.names.search_keys import SearchedKeysOf, flat_parameters
from eeg2fmri_dist.config.train import TrainConfig
from eeg2fmri_dist.config.without_effect import WithoutEffect, given, unread

Number = int | float


class Parameter(Schema):
    """Values of one searched key of the training config."""

    choices: list[Any] | None = Field(
        None, min_length=1, description="any YAML values, lists and mappings included"
    )
    low: Number | None = Field(
        None, description="smallest value; the range is one of integers if both ends are integers"
    )
    high: Number | None = Field(None, description="largest value, included")
    log: bool = Field(False, description="search the logarithm of a range")
    step: Number | None = Field(None, gt=0, description="distance between values of a range")
    when: dict[str, Any] = Field(
        {},
        description="searched only where these keys, searched above, have these values (a list = "
        "one of them)",
    )

    @property
    def is_integer(self) -> bool:
        """Whether a range is one of integers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @model_validator(mode="after")
    def _is_choices_or_range(self) -> Parameter:
        if (self.choices is None) == (self.low is None and self.high is None):
            raise ValueError("give either choices, or low and high")
        if self.choices is not None:
            for place, choice in enumerate(self.choices):
                if choice in self.choices[:place]:
                    raise ValueError(f"choice {choice!r} is there twice (true is 1, false is 0)")
            return self
        if self.low is None or self.high is None or self.low > self.high:
            raise ValueError(f"a range needs low <= high, got {self.low} and {self.high}")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("a log range starts above 0 and has no step")
        if self.is_integer and isinstance(self.step, float):
            raise ValueError("a range of integers has an integer step")
        return self


class ObjectiveConfig(Schema):
    """What makes one trial better than another."""

    renamed = former_names.OBJECTIVE

    metric: str = Field(
        "validation/r_region",
        description="a number of the run's log.jsonl, such as validation/r_region",
    )
    direction: Literal["maximize", "minimize"] = Field("maximize", description="which is better")
    value: Literal["best", "last"] = Field(
        "best", description="the best of all validated epochs, or that of the last"
    )


class SamplerConfig(Schema):
    """How the next trial's values are chosen."""

    name: Literal["tpe", "random", "grid"] = Field(
        "tpe", description="tree-structured Parzen estimator, random, or all combinations"
    )
    seed: int = Field(0, ge=0, description="the same seed and one parallel job: the same study")
    startup_trials: int = Field(10, ge=1, description="tpe: random trials at the beginning")

    def without_effect(self) -> Iterator[WithoutEffect]:
        """Keys of the other samplers."""
        if self.name != "tpe":
            yield from unread(given(self), "sampler.name: tpe", "startup_trials")
        if self.name == "grid":
            yield from unread(given(self), "sampler.name: tpe or random", "seed")


class BudgetConfig(Schema):
    """When a sweep ends and how wide it is; may change between calls."""

    trials: int | None = Field(
        None, ge=1, description="trials in all; null = no limit (where all are known: all)"
    )
    hours: float | None = Field(
        None,
        gt=0,
        description="no trial is started so many hours after the first one; null = never",
    )
    parallel: int = Field(1, ge=1, description="jobs at a time")


class PruningConfig(Schema):
    """Asynchronous successive halving (Li et al., MLSys 2020) over epochs."""

    min_epochs: int = Field(1, ge=1, description="epochs before the first decision")
    reduction: int = Field(
        3, ge=2, description="one trial in so many goes on; decisions at min_epochs x its powers"
    )


class FoldsConfig(Schema):
    """Cross-validation over subjects: each model is trained once for each fold."""

    renamed = former_names.FOLDS

    name: Literal["leave_one_subject_out", "k_fold"] = Field(
        "leave_one_subject_out", description="how subjects are left out"
    )
    folds: int = Field(4, ge=2, description="k_fold: number of folds")
    models: dict[str, Path] = Field(
        min_length=1,
        description="name -> training config; one that names the run folder of another (tokenizer, "
        "model.skip_from) takes that of the same fold",
    )
    scores: list[str] = Field(
        ["r_region", "r_voxel", "std_ratio", "psnr_zscore_db", "ssim2d_zscore"],
        min_length=1,
        description="scores of held-out subjects in the table, as in metrics.json",
    )
    ssim_every: int = Field(5, ge=1, description="SSIM is computed on every n-th volume")

    def without_effect(self) -> Iterator[WithoutEffect]:
        """A number of folds, where each subject is one."""
        if self.name != "k_fold":
            yield from unread(given(self), "folds.name: k_fold", "folds", is_mistake=True)


class ConditionConfig(Schema):
    """A store that models are trained on and scored in."""

    store: Path = Field(description="HDF5 store of `launch/preprocess.py`")
    truth: Path | None = Field(
        None,
        description="folder with the truth of simulated subjects, for the noise ceiling",
    )
    train_subjects: list[int] | None = Field(
        None, min_length=1, description="these of the numbers alone; null = all"
    )
    fractions: tuple[float, float, float] | None = Field(
        None,
        description="split.fractions here, for a store with fewer or more subjects; "
        "null = those of the training configs",
    )


class CurveConfig(Schema):
    """A model of learning curves."""

    config: Path = Field(description="training config; its store and its split's size are replaced")
    train_subjects: list[int] | None = Field(
        None, min_length=1, description="these of the numbers alone; null = all"
    )
    seeds: list[int] | None = Field(
        None, min_length=1, description="these of the seeds alone; null = all"
    )


class LearningCurvesConfig(Schema):
    """Scores against the number of training subjects, of each model, in each condition."""

    conditions: dict[str, ConditionConfig] = Field(min_length=1, description="name -> store, with")
    train_subjects: list[int] = Field(
        min_length=1, description="numbers of training subjects (split.train_subjects)"
    )
    seeds: list[int] = Field([0], min_length=1, description="of initial weights and sampling")
    models: dict[str, CurveConfig] = Field(
        min_length=1,
        description="name -> training config; where it names the run folder of another of them "
        "(tokenizer, model.skip_from), it takes that of the same condition and subjects, with",
    )
    reference: str | None = Field(
        None, description="model that the others are compared with, subject by subject"
    )

    @model_validator(mode="after")
    def _names_are_known(self) -> LearningCurvesConfig:
        if self.reference is not None and self.reference not in self.models:
            raise ValueError(f"reference {self.reference!r} is none of {', '.join(self.models)}")
        parts: list[tuple[str, Schema]] = []
        parts += [(f"conditions.{name}", part) for name, part in self.conditions.items()]
        parts += [(f"models.{name}", part) for name, part in self.models.items()]
        for name, part in parts:
            for key in ("train_subjects", "seeds"):
                chosen = getattr(part, key, None) or []
                unknown = sorted(set(chosen) - set(getattr(self, key)))
                if unknown:
                    raise ValueError(f"{name}.{key}: {unknown[0]} is not among {key}")
        return self


class ResourcesConfig(Schema):
    """What each job gets; may change between calls."""

    renamed = former_names.RESOURCES

    nodes: int = Field(1, ge=1, description="nodes of a job")
    gpus_per_node: int = Field(0, ge=0, description="devices per node; 0 = CPU")
    tasks_per_node: int | None = Field(
        None, ge=1, description="ranks per node; null = one per GPU, or one"
    )
    cpus_per_task: int | None = Field(None, ge=1, description="CPU cores per rank (Slurm)")
    memory_gib: float | None = Field(
        None,
        gt=0,
        description="memory per node (GiB); trials that need more are refused before they queue",
    )
    gpu_memory_gib: float | None = Field(
        None, gt=0, description="memory of one GPU (GiB); trials that need more are refused"
    )
    hours: float = Field(
        24, gt=0, description="time limit of a job; a trial that needs more resumes in another job"
    )
    grace_s: int = Field(120, ge=1, description="seconds between the stop signal and the limit")
    partition: str | None = Field(None, description="Slurm partition")
    account: str | None = Field(None, description="Slurm account")
    setup: list[str] = Field([], description="shell lines before a job, such as module load")
    slurm: dict[str, Any] = Field(
        {}, description="further options of sbatch, such as {qos: long, constraint: a100}"
    )

    @property
    def ranks_per_node(self) -> int:
        """Processes of a training on one node."""
        return self.tasks_per_node or max(1, self.gpus_per_node)

    @property
    def world_size(self) -> int:
        """Processes of a training."""
        return self.nodes * self.ranks_per_node


class SweepConfig(Schema):
    """`launch/sweep.py`: many trainings: a search, a cross-validation or learning curves."""

    output: Path = Field(description="folder of the sweep; the same command on it continues")
    base: Path | None = Field(None, description="training config that trials start from")
    overrides: Annotated[dict[str, Any], KeysOf(TrainConfig)] = Field(
        {}, description="keys of the training config, nested or dotted, the same in all trials"
    )
    search: Annotated[dict[str, Parameter], SearchedKeysOf(TrainConfig)] = Field(
        {}, description="key of the training config (dotted or nested) -> its values, with"
    )
    folds: FoldsConfig | None = Field(
        None, description="cross-validation in place of a search, with"
    )
    learning_curves: LearningCurvesConfig | None = Field(
        None, description="learning curves in place of a search, with"
    )
    objective: ObjectiveConfig = Field(ObjectiveConfig(), description="what is searched for")
    sampler: SamplerConfig = Field(SamplerConfig(), description="how values are chosen")
    pruning: PruningConfig | None = Field(
        None, description="stops unpromising trials early; null = off"
    )
    budget: BudgetConfig = Field(BudgetConfig(), description="when it ends, how wide it is")
    retries: int = Field(2, ge=0, description="new starts of a trial whose job died")
    cluster: Literal["auto", "local", "slurm", "debug"] = Field(
        "auto",
        description="where jobs run: on this machine, on Slurm, in this process one after the "
        "other; auto = slurm where sbatch is found, else local",
    )
    resources: ResourcesConfig = Field(ResourcesConfig(), description="of each job")
    poll_s: float | None = Field(
        None,
        gt=0,
        description="seconds between looks at the jobs; null = 0.5 on this machine, 10 on Slurm, "
        "whose queue all users share",
    )

    @model_validator(mode="before")
    @classmethod
    def _flatten_search(cls, values: Any) -> Any:
        if isinstance(values, dict) and isinstance(values.get("search"), dict):
            return {**values, "search": flat_parameters(values["search"])}
        return values

    @property
    def is_search(self) -> bool:
        """Whether trials look for the best values, instead of all being wanted."""
        return self.folds is None and self.learning_curves is None

    @model_validator(mode="after")
    def _has_one_purpose(self) -> SweepConfig:
        if not self.is_search:
            if self.folds is not None and self.learning_curves is not None:
                raise ValueError("give folds or learning_curves, not both")
            name = "folds" if self.folds is not None else "learning_curves"
            if self.search or self.base is not None:
                raise ValueError(f"{name} take no search and no base: their models are configs")
            if self.pruning is not None:
                raise ValueError(f"{name} are not pruned: each of them is wanted")
            return self
        if self.base is None or not self.search:
            raise ValueError("give base and search, or folds, or learning_curves")
        if self.sampler.name != "grid" and self.budget.trials is None and self.budget.hours is None:
            raise ValueError("give budget.trials or budget.hours: the search never ends by itself")
        self._check_conditions()
        return self

    def _check_conditions(self) -> None:
        seen: set[str] = set()
        for key, parameter in self.search.items():
            unknown = sorted(set(parameter.when) - seen)
            if unknown:
                raise ValueError(f"search.{key}.when: {unknown[0]!r} is not searched above it")
            if self.sampler.name == "grid" and not _is_countable(parameter):
                raise ValueError(f"search.{key}: a grid needs choices, integers or a step")
            seen.add(key)

    def without_effect(self) -> Iterator[WithoutEffect]:
        """Keys of a search, of Slurm and of GPUs, where there are none."""
        keys = given(self)
        if not self.is_search:
            yield from unread(keys, "a search", "sampler.", is_mistake=True)
        if self.cluster in ("local", "debug"):
            of_slurm = [f"resources.{key}" for key in ("partition", "account", "slurm")]
            yield from unread(keys, "cluster: slurm", *of_slurm)
        if not self.resources.gpus_per_node:
            on_gpus = "resources.gpus_per_node above 0"
            yield from unread(keys, on_gpus, "resources.gpu_memory_gib")


def _is_countable(parameter: Parameter) -> bool:
    return parameter.choices is not None or parameter.is_integer or parameter.step is not None
