"""The quality page of a recording, and the index of a data set: HTML that loads nothing else."""

from __future__ import annotations

import hashlib
import html
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import eeg2fmri_dist
from eeg2fmri_dist.files.atomic import write_text
from eeg2fmri_dist.files.made_from import describe, why_stale
from eeg2fmri_dist.pages.templates import render
from preprocessing.quality.accepted_ranges import RANGES, Check, Level, Verdict, judge
from preprocessing.quality.page_evidence import Evidence, as_bytes, load_evidence

if TYPE_CHECKING:
    from preprocessing.bold.registration import Registration

# Raise it when pages look otherwise: all are then drawn again.
PAGE_VERSION = 2
_HEAD_BYTES = 4000  # what a page is made from stands in them
INDEX_NAME = "index.html"
_ORIGINS = {
    "real": "",
    "simulated": "simulated data",
    "simulated_eeg": "real BOLD, simulated EEG",
}
_HEADLINES = {
    Level.ACCEPT: "Accept",
    Level.LOOK: "Look before you use it",
    Level.REJECT: "Reject",
}
# Numbers of the index, besides those that are not accepted.
_COLUMNS = (
    ("dice", "Dice"),
    ("coverage", "brain seen"),
    ("fd_mean_mm", "FD mean"),
    ("fd_max_mm", "FD max"),
    ("std_dvars_share_above_1.5", "DVARS > 1.5"),
    ("tsnr_median", "tSNR"),
    ("eeg_peak_to_peak_uv_median", "EEG range"),
    ("eeg_outlier_share", "EEG outliers"),
    ("eeg_slice_peak_db", "slice peak"),
)


@dataclass(frozen=True)
class Neighbors:
    """Pages before and after one in the order of the store; empty where there is none."""

    before: str = ""
    after: str = ""


@dataclass(frozen=True)
class IndexRow:
    """A recording in the index.

    Attributes
    ----------
    key : str
    page : str
        File name of its page; empty where there is none.
    verdict : Verdict or None
        None where preprocessing failed.
    quality : dict
        Its numbers.
    n_volumes : int or None
    tr_s : float or None
    error : str
        Why there is no page.
    """

    key: str
    page: str
    verdict: Verdict | None
    quality: dict[str, Any]
    n_volumes: int | None = None
    tr_s: float | None = None
    error: str = ""

    @classmethod
    def judged(cls, page: str, facts: dict[str, Any], quality: dict[str, Any]) -> IndexRow:
        """Return the row of a recording that has a page."""
        verdict = judge(quality, int(facts["dummy_scans"]))
        return cls(facts["key"], page, verdict, quality, facts["n_volumes"], facts["tr_s"])


def page_name(key: str) -> str:
    """Return the file name of a recording's page."""
    return f"{key}.html"


def page_inputs(evidence: Path, neighbors: Neighbors) -> dict[str, Any]:
    """Return everything that a page is made from."""
    return describe(
        evidence=hashlib.sha256(evidence.read_bytes()).hexdigest(),
        page=PAGE_VERSION,
        version=eeg2fmri_dist.__version__,
        neighbors=asdict(neighbors),
    )


def why_draw(page: Path, inputs: Mapping[str, Any]) -> str | None:
    """Return why a page must be drawn (again); None = it is made from these inputs.

    They stand in its head, as JSON.
    """
    if not page.is_file():
        return "there is no page yet"
    head = page.read_bytes()[:_HEAD_BYTES].decode("utf-8", errors="replace")
    found = re.search(r'<meta name="made-from" content="([^"]*)">', head)
    try:
        recorded = json.loads(html.unescape(found.group(1))) if found else {}
    except ValueError:
        recorded = {}
    return why_stale(recorded, inputs)


def write_page(evidence_file: Path, page: Path, neighbors: Neighbors) -> None:
    """Draw the page of a recording; it appears whole or not at all.

    Parameters
    ----------
    evidence_file : Path
        As written beside the recording's shard.
    page : Path
        HTML file to write.
    neighbors : Neighbors
        Pages that it links to.

    Raises
    ------
    DataError
        If the evidence is missing or damaged.
    """
    evidence = load_evidence(evidence_file)
    verdict = judge(evidence.quality, int(evidence.facts["dummy_scans"]))
    text = _render(
        "page.html.j2",
        made_from=json.dumps(page_inputs(evidence_file, neighbors)),
        facts=evidence.facts,
        quality=evidence.quality,
        origin=_ORIGINS.get(evidence.facts["origin"], evidence.facts["origin"]),
        verdict=verdict,
        headline=_HEADLINES[verdict.level],
        neighbors=neighbors,
        others=_others(evidence, verdict),
        **_figures(evidence),
    )
    write_text(page, text)


def failure_name(key: str) -> str:
    """Return the file name of the page of a recording whose registration was refused."""
    return f"{key}.failed.html"


def write_failure(page: Path, key: str, reason: str, registration: Registration) -> None:
    """Draw the registration that was refused; the page appears whole or not at all.

    Parameters
    ----------
    page : Path
        HTML file to write.
    key : str
        Of the recording.
    reason : str
        Why it was refused.
    registration : Registration
    """
    from preprocessing.quality import brain_figures

    epi = as_bytes(registration.warped_epi)
    text = _render(
        "failure.html.j2",
        key=key,
        reason=reason,
        template_on_epi=brain_figures.template_on_epi(epi),
        epi_on_template=brain_figures.epi_on_template(epi, registration.warped_mask),
    )
    write_text(page, text)


def write_index(
    path: Path,
    rows: Sequence[IndexRow],
    title: str,
    origin: str,
    excluded: Sequence[tuple[str, str]] = (),
) -> None:
    """Write the table of all recordings, unless it is there as it is.

    Parameters
    ----------
    path : Path
        HTML file to write.
    rows : sequence of IndexRow
        In the order of the store.
    title : str
        Name of the store.
    origin : str
        `source.origin`.
    excluded : sequence of (str, str)
        Keys of recordings that a person left out, and why.
    """
    counts = {
        level.word: sum(row.verdict is not None and row.verdict.level == level for row in rows)
        for level in Level
    }
    labels = {limits.name: limits for limits in RANGES}
    text = _render(
        "index.html.j2",
        rows=rows,
        title=title,
        origin=_ORIGINS.get(origin, origin),
        counts=counts,
        failed=[row for row in rows if row.verdict is None],
        excluded=excluded,
        columns=[(labels[name], short) for name, short in _COLUMNS],
        check_of=_check_of,
    )
    if not path.is_file() or path.read_bytes() != text.encode():
        write_text(path, text)


def _render(template: str, **shown: Any) -> str:
    filters = {"href": lambda name: quote(name, safe=""), "value": _value}
    shown["index_name"] = INDEX_NAME
    return render(f"preprocessing/quality/{template}", shown, filters)


def _figures(evidence: Evidence) -> dict[str, Any]:
    from preprocessing.quality import brain_figures, course_figures, electrode_figures

    return {
        "template_on_epi": brain_figures.template_on_epi(evidence.epi),
        "epi_on_template": brain_figures.epi_on_template(evidence.epi, evidence.epi_mask),
        "time_courses": course_figures.time_courses(evidence),
        "tsnr": brain_figures.tsnr(evidence),
        "topographies": electrode_figures.topographies(evidence),
        "small": [
            course_figures.first_volumes(evidence),
            electrode_figures.spectra(evidence),
            electrode_figures.marker_spacing(evidence),
        ],
    }


def _others(evidence: Evidence, verdict: Verdict) -> dict[str, Any]:
    """Numbers of the quality column that have no accepted range."""
    judged = {check.range.name for check in verdict.checks}
    return {
        name: value
        for name, value in evidence.quality.items()
        if name not in judged and value != ""
    }


def _check_of(row: IndexRow, name: str) -> Check | None:
    checks = row.verdict.checks if row.verdict else ()
    return next((check for check in checks if check.range.name == name), None)


def _value(value: object) -> str:
    """A number of the quality column as text."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:.4g}".replace("-", "−")
