"""The verbs of `launch/sweep.py`: carry out, plan, show."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

from eeg2fmri_dist.config import to_yaml
from eeg2fmri_dist.config.sweep import SweepConfig
from eeg2fmri_dist.errors import DataError
from eeg2fmri_dist.files.atomic import replacing, write_json, write_text
from eeg2fmri_dist.sweep.driver import Driver
from eeg2fmri_dist.sweep.folder import SweepFolder
from eeg2fmri_dist.sweep.folds import Folds, folds_table
from eeg2fmri_dist.sweep.jobs.submission import choose_cluster, open_cluster
from eeg2fmri_dist.sweep.learning_curves.task import LearningCurves
from eeg2fmri_dist.sweep.optuna_study import Study
from eeg2fmri_dist.sweep.search import Search, Task
from eeg2fmri_dist.sweep.stores import require_same_stores

if TYPE_CHECKING:
    from eeg2fmri_dist.sweep.monitoring.page import Curves

logger = logging.getLogger(__name__)


def sweep(config: SweepConfig) -> None:
    """Carry a sweep out, or continue one, to its end.

    Raises
    ------
    SuiteError
        With the exit codes of `eeg2fmri_dist.errors`.
    """
    folder = SweepFolder(config.output)
    task = make_task(config, folder)
    cluster = open_cluster(
        choose_cluster(config.cluster),
        folder.submissions,
        config.resources,
        config.budget.parallel,
    )
    with folder.locked():
        folder.claim(config, task.bases())
        require_same_stores(folder, task.stores())
        study = Study(folder, config)

    def note_ended() -> None:
        # TensorBoard's records need imports that would hold up the first job.
        from eeg2fmri_dist.sweep.monitoring.hparams import write_hparams

        write_hparams(folder, study.trials(), config.objective.metric, task.examples())

    Driver(config, folder, study, task, cluster, on_end=note_ended).run()
    note_ended()
    conclude(config, folder, study, task)


def conclude(config: SweepConfig, folder: SweepFolder, study: Study, task: Task) -> None:
    """Write the page and say what came out."""
    from eeg2fmri_dist.sweep.monitoring.page import write_page

    table = folds_table(task) if isinstance(task, Folds) else {}
    curves = conclude_curves(config, folder, task) if isinstance(task, LearningCurves) else None
    write_page(folder, config, study, table, curves)
    logger.info("wrote %s", folder.page)
    if table:
        from eeg2fmri_dist.sweep.monitoring.status import print_folds

        write_json(folder.root / "folds.json", table)
        print_folds(table)
    best = study.best()
    if best is not None and config.is_search:
        logger.info(
            "best: trial %d, %s %.6g, %s",
            best.number,
            config.objective.metric,
            best.value,
            folder.run(best.number),
        )


def conclude_curves(config: SweepConfig, folder: SweepFolder, task: LearningCurves) -> Curves:
    """Write ``learning_curves`` as JSON, Markdown and PNG, and print the table."""
    from eeg2fmri_dist.sweep.learning_curves.baselines import (
        ceiling_of,
        find_baselines,
        summarize_baselines,
    )
    from eeg2fmri_dist.sweep.learning_curves.figure import draw_curves
    from eeg2fmri_dist.sweep.learning_curves.markdown import as_markdown
    from eeg2fmri_dist.sweep.learning_curves.table import as_json, summarize_curves
    from eeg2fmri_dist.sweep.monitoring.page import Curves
    from eeg2fmri_dist.sweep.monitoring.printed_curves import print_curves

    assert config.learning_curves is not None
    reference = config.learning_curves.reference
    found = find_baselines(config.learning_curves, task, folder)
    ceilings = {condition: ceiling_of(scores) for condition, scores in found.items()}
    points = summarize_curves(config.learning_curves, task, ceilings)
    baselines = summarize_baselines(found)
    write_json(folder.root / "learning_curves.json", as_json(points, found))
    write_text(folder.root / "learning_curves.md", as_markdown(points, baselines, reference))
    figure = draw_curves(points, baselines) if points else None
    if figure is not None:
        with replacing(folder.root / "learning_curves.png") as part:
            part.write_bytes(figure.data)
    print_curves(points, baselines, reference)
    return Curves(points, baselines, reference, figure)


def plan(config: SweepConfig) -> Iterator[str]:
    """Yield the lines of ``--dry-run``."""
    folder = SweepFolder(config.output)
    task = make_task(config, folder)
    resources, budget = config.resources, config.budget
    yield f"sweep into {folder.root}, cluster: {choose_cluster(config.cluster)}"
    yield (
        f"  each job: {resources.nodes} node(s) x {resources.ranks_per_node} rank(s), "
        f"{resources.gpus_per_node} GPU(s) per node, {resources.hours:g} h"
    )
    if task.points is not None:
        count = min(len(task.points), budget.trials or len(task.points))
        yield f"  {count} trials, {budget.parallel} at a time:"
        for point in task.points[:count]:
            yield "    " + "  ".join(f"{key}={value}" for key, value in point.items())
        return
    limits = [f"{budget.trials} trials"] if budget.trials else []
    limits += [f"{budget.hours:g} h"] if budget.hours else []
    yield f"  {' or '.join(limits)}, {budget.parallel} at a time, sampler {config.sampler.name}"
    for key, parameter in config.search.items():
        given = parameter.model_dump(mode="json", exclude_unset=True)
        yield f"    {key}: " + "  ".join(f"{name} {value}" for name, value in given.items())
    yield f"  {config.objective.direction} {config.objective.metric}"


def show_status(config: SweepConfig) -> None:
    """Print the table of trials; on a terminal, one that follows the sweep."""
    from eeg2fmri_dist.sweep.monitoring.status import show

    folder = SweepFolder(config.output)
    points = make_task(config, folder).points
    limits = [config.budget.trials, None if points is None else len(points)]
    goal = min((limit for limit in limits if limit is not None), default=None)
    show(config, open_study(folder, config), goal)


def show_best(config: SweepConfig) -> str:
    """Return the best trial's training config as YAML, to be trained into ``SWEEP/best``.

    Raises
    ------
    DataError
        If no trial is complete.
    """
    folder = SweepFolder(config.output)
    study = open_study(folder, config)
    best = study.best()
    if best is None:
        raise DataError("no trial is complete yet", where=folder.root)
    trained = make_task(config, folder).training(best.number, best.params).config()
    config_yaml = to_yaml(trained.model_copy(update={"output": folder.root / "best"}))
    head = f"# Trial {best.number} of {folder.root}: {config.objective.metric} {best.value:.6g}"
    return f"{head}\n{config_yaml}"


def open_study(folder: SweepFolder, config: SweepConfig) -> Study:
    """Open the study of a sweep that was begun.

    Raises
    ------
    DataError
        If it was not.
    """
    if not folder.journal.exists():
        raise DataError(
            "no sweep here yet",
            where=folder.root,
            remedy="start it with the same command, without --status and --best",
        )
    with folder.locked():
        return Study(folder, config)


def make_task(config: SweepConfig, folder: SweepFolder) -> Task:
    """Return what the trials of a config run."""
    if config.folds is not None:
        return Folds(config, folder)
    if config.learning_curves is not None:
        return LearningCurves(config, folder)
    return Search(config, folder)
