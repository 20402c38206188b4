"""Bring the quality pages of a store up to date: the stale ones on the workers, then the index."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eeg2fmri_dist.config.preprocess import PreprocessConfig
from eeg2fmri_dist.errors import DataError, SuiteError
from eeg2fmri_dist.files.atomic import write_json
from preprocessing.job.cost import Meter
from preprocessing.job.shards import page_cost_path, quality_folder, shard_folder
from preprocessing.job.summary import Row
from preprocessing.quality.accepted_ranges import Level
from preprocessing.quality.page import (
    INDEX_NAME,
    IndexRow,
    Neighbors,
    failure_name,
    page_inputs,
    page_name,
    why_draw,
    write_index,
    write_page,
)
from preprocessing.quality.page_evidence import evidence_path, load_summary

if TYPE_CHECKING:
    from preprocessing.cluster.client import Cluster

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PagePlace:
    """A recording's page, what it is drawn from and what it links to."""

    key: str
    evidence: Path
    page: Path
    cost: Path
    neighbors: Neighbors


def update_pages(cluster: Cluster, rows: Sequence[Row], config: PreprocessConfig) -> Path:
    """Draw the pages whose evidence changed, and the index.

    A page that cannot be drawn is logged and named in the index; it fails nothing else.

    Parameters
    ----------
    cluster : Cluster
        Where pages are drawn; started if any is stale.
    rows : sequence of Row
        What became of each recording, in the order of the store.
    config : PreprocessConfig

    Returns
    -------
    Path
        The index.
    """
    folder = quality_folder(config.output)
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.glob(".*.part"):
        leftover.unlink()
    excluded = [row for row in rows if row.state == "excluded"]
    rows = [row for row in rows if row.state != "excluded"]
    places = _places([row.recording for row in rows if row.state != "failed"], config)
    errors = dict(_draw(cluster, [place for place in places if _is_stale(place)]))
    by_key = {place.key: place for place in places}
    failures = _failure_pages(folder, rows)
    index_rows = [
        _index_row(row, by_key.get(row.recording), errors, failures.get(row.recording, ""))
        for row in rows
    ]
    index = folder / INDEX_NAME
    left_out = [(row.recording, row.message) for row in excluded]
    write_index(index, index_rows, config.output.name, config.source.origin, left_out)
    logger.info("quality: %s: %s", _counts(index_rows), index)
    return index


def draw_page(place: PagePlace) -> None:
    """Draw one page and record what it took; runs on a worker."""
    meter = Meter()
    write_page(place.evidence, place.page, place.neighbors)
    write_json(place.cost, asdict(meter.cost()))


def _places(keys: Sequence[str], config: PreprocessConfig) -> list[PagePlace]:
    pages = ["", *map(page_name, keys), ""]
    shards = [shard_folder(config.output) / f"{key}.h5" for key in keys]
    return [
        PagePlace(
            key,
            evidence_path(shard),
            quality_folder(config.output) / pages[number],
            page_cost_path(shard),
            Neighbors(pages[number - 1], pages[number + 1]),
        )
        for number, (key, shard) in enumerate(zip(keys, shards, strict=True), start=1)
    ]


def _is_stale(place: PagePlace) -> bool:
    if not place.evidence.is_file():
        return False
    reason = why_draw(place.page, page_inputs(place.evidence, place.neighbors))
    if reason is not None:
        logger.debug("%s: quality page: %s", place.key, reason)
    return reason is not None


def _draw(cluster: Cluster, stale: Sequence[PagePlace]) -> Iterator[tuple[str, str]]:
    """Draw pages on the cluster; yields key and reason of those that failed."""
    if not stale:
        return
    cluster.start(len(stale))
    doing: dict[Any, str] = {
        cluster.submit(draw_page, place, name=f"{place.key} quality page", rank=rank): place.key
        for rank, place in enumerate(stale)
    }
    n_pages = len(doing)
    for number, future in enumerate(cluster.completed(doing), start=1):
        key, error = doing.pop(future), cluster.error(future)
        if error is None:
            logger.info("[%d/%d] %s: quality page done", number, n_pages, key)
            continue
        if isinstance(error, SuiteError) and not isinstance(error, DataError):
            raise error
        logger.error("%s: the quality page failed: %s", key, error)
        yield key, f"{type(error).__name__}: {error}"


def _failure_pages(folder: Path, rows: Sequence[Row]) -> dict[str, str]:
    """Pages of refused registrations that are there, by key; those of earlier runs are removed."""
    failed = {
        failure_name(row.recording): row.recording
        for row in rows
        if row.state == "failed" and row.message.startswith("registration")
    }
    pages = {}
    for page in folder.glob("*.failed.html"):
        if page.name in failed:
            pages[failed[page.name]] = page.name
        else:
            page.unlink()
    return pages


def _index_row(row: Row, place: PagePlace | None, errors: dict[str, str], failure: str) -> IndexRow:
    if place is None:
        return IndexRow(row.recording, failure, None, {}, error=f"{row.message}: {row.error}")
    if row.recording in errors:
        return IndexRow(row.recording, "", None, {}, error=errors[row.recording])
    try:
        facts, quality = load_summary(place.evidence)
    except DataError as error:
        return IndexRow(row.recording, "", None, {}, error=str(error))
    return IndexRow.judged(place.page.name, facts, quality)


def _counts(rows: Sequence[IndexRow]) -> str:
    levels = [row.verdict.level for row in rows if row.verdict is not None]
    counts = [f"{levels.count(level)} {level.word}" for level in Level]
    without = len(rows) - len(levels)
    return ", ".join(counts + ([f"{without} without a page"] if without else []))
