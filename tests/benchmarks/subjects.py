"""One full-size simulated recording, preprocessed by the suite and as one would by hand."""

from __future__ import annotations

import atexit
import functools
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

from eeg2fmri_dist.config import load_config
from eeg2fmri_dist.config.preprocess import PreprocessConfig
from eeg2fmri_dist.files.made_from import read_record
from preprocessing.job.estimates import predicted_step_s, rates_of
from preprocessing.job.preconditions import as_text, bytes_needed
from preprocessing.job.selected_runs import read_headers
from preprocessing.job.shard_record import record_path
from preprocessing.job.shards import Shard, examine, page_cost_path, shard_folder, shard_of
from preprocessing.job.summary import core_time, table
from preprocessing.recordings import Recording
from tests.benchmarks.measuring import Measurement
from tests.benchmarks.processes import Usage, use
from tests.benchmarks.trainings import ROOT

SUBJECT = "32"
NODE_CORES = 32
_REST = "processes, imports, merge"
_RUNS = 3
COUNTS = (100, 1_000, 10_000)
WHAT = "300 volumes, 64 channels at 5 kHz, 651 s, simulated; one core"


@dataclass(frozen=True)
class Preprocessed:
    """What the suite's command used, and the processor seconds of its stages."""

    usage: Usage
    stages: dict[str, float]
    config: PreprocessConfig


def cpu_seconds() -> Measurement:
    """Everything that launch/preprocess.py does: processes, imports, quality pages and merge."""
    ours = by_suite()
    return Measurement(
        value=ours.usage.cpu_s,
        unit="CPU s",
        against="-",
        target="<= 25",
        notes=[WHAT, _stage_line("ours", ours.stages)],
    )


def peak_memory() -> Measurement:
    """Largest of the command's processes."""
    ours = by_suite()
    costs = _record(ours.config)["row"]["costs"].values()
    peak_bytes = max([ours.usage.peak_bytes, *(cost["peak_bytes"] for cost in costs)])
    return Measurement(
        value=peak_bytes / 2**30,
        unit="GiB",
        against="-",
        target="<= 1.2",
        notes=[f"straightforward chain: {by_chain()[0].peak_bytes / 2**30:.2f} GiB"],
    )


def against_chain() -> Measurement:
    """Processor time of the straightforward chain over ours."""
    ours, (chain, stages) = by_suite(), by_chain()
    return Measurement(
        value=chain.cpu_s / ours.usage.cpu_s,
        unit="times faster",
        against="MNE preload, filter, resample, spectrogram; ANTs once, then volume by volume",
        target=">= 5",
        notes=[
            f"ours {ours.usage.cpu_s:.1f} CPU s, chain {chain.cpu_s:.1f} CPU s (no bad-channel, "
            "motion and quality measures, no pages)",
            *_stages_side_by_side(ours.stages, stages),
        ],
    )


def against_literal() -> Measurement:
    """The paper's text taken to the letter: each volume is registered."""
    ours, (chain, stages) = by_suite(), by_chain()
    from tests.benchmarks.straightforward import LITERAL_VOLUMES

    measured = _stages_of(_by_hand("literal"))
    per_volume_s = sum(measured[name] for name in _PER_VOLUME) / LITERAL_VOLUMES
    n_volumes = _record(ours.config)["row"]["n_volumes"]
    literal_s = chain.cpu_s - sum(stages[name] for name in _PER_VOLUME) + n_volumes * per_volume_s
    return Measurement(
        value=literal_s / ours.usage.cpu_s,
        unit="times faster",
        against=f"a registration per volume, {LITERAL_VOLUMES} measured and scaled",
        target=">= 100",
        notes=[f"{per_volume_s:.1f} CPU s per volume, {literal_s / 3600:.2f} h for {n_volumes}"],
    )


def prediction() -> Measurement:
    """What data sets of such recordings take, by the rates that --dry-run uses."""
    ours = by_suite()
    config = ours.config
    shard = _shard(config)
    rates = rates_of(config, shard_folder(config.output))
    seconds = predicted_step_s(shard, rates) | {"quality page": rates.page_s}
    read_bytes = sum(file.size for file in shard.sources)
    written = bytes_needed(config, [shard], [shard])
    rows = [
        (
            f"{count:,}",
            core_time(count * sum(seconds.values())),
            f"{count * sum(seconds.values()) / 3600 / NODE_CORES:.2f}",
            as_text(count * read_bytes),
            as_text(count * written),
        )
        for count in COUNTS
    ]
    header = ("recordings", "steps", f"hours of a {NODE_CORES}-core node", "read", "written")
    return Measurement(
        value=COUNTS[-1] * sum(seconds.values()) / 3600,
        unit="core-hours",
        against=f"{COUNTS[-1]:,} recordings, predicted",
        notes=[
            "measured on one recording: "
            + ", ".join(f"{step} {value:.1f} CPU s" for step, value in seconds.items())
            + f"; not in the table: {ours.stages[_REST]:.1f} CPU s for {_REST}",
            *table(header, rows),
        ],
    )


@functools.cache
def by_suite() -> Preprocessed:
    """Of some runs, the one of median processor time."""
    runs = [_run_suite(f"ours{number}") for number in range(_RUNS)]
    return sorted(runs, key=lambda run: run.usage.cpu_s)[_RUNS // 2]


def _run_suite(name: str) -> Preprocessed:
    """Run launch/preprocess.py on the recording, on one core."""
    output = _folder() / name / "store.h5"
    overrides = _overrides(output)
    usage = use(
        ["launch/preprocess.py", "configs/preprocess/noddi.yaml", *overrides, "cluster.workers=1"],
        cores=1,
    )
    config = load_config(PreprocessConfig, ROOT / "configs/preprocess/noddi.yaml", overrides)
    costs = _record(config)["row"]["costs"]
    stages = {step: cost["cpu_s"] for step, cost in costs.items()}
    stages["quality page"] = _page_cost(config)["cpu_s"]
    stages[_REST] = usage.cpu_s - sum(stages.values())
    return Preprocessed(usage, stages, config)


@functools.cache
def by_chain() -> tuple[Usage, dict[str, float]]:
    """Run the straightforward chain on the recording, on one core."""
    usage = _by_hand("chain")
    stages = _stages_of(usage)
    return usage, stages | {"imports and the rest": usage.cpu_s - sum(stages.values())}


_PER_VOLUME = ("BOLD: registration", "BOLD: warp", "BOLD: resize")


def _by_hand(which: str) -> Usage:
    recording = _recording(
        load_config(
            PreprocessConfig,
            ROOT / "configs/preprocess/noddi.yaml",
            _overrides(_folder() / "chain.h5"),
        )
    )
    paths = [str(recording.eeg_path), str(recording.bold_path), str(_folder() / "chain.h5")]
    return use(["-m", "tests.benchmarks.straightforward", which, *paths], cores=1)


def _stages_of(usage: Usage) -> dict[str, float]:
    """The last line; libraries write to the standard output too."""
    return json.loads(usage.output.splitlines()[-1])


@functools.cache
def _folder() -> Path:
    """Folder that holds the simulated recording, until the benchmarks are done."""
    folder = tempfile.TemporaryDirectory(prefix="bench")
    atexit.register(folder.cleanup)
    overrides = [f"output={folder.name}/data", f'subjects=["{SUBJECT}"]']
    use(["launch/simulate.py", "configs/simulate/noddi.yaml", *overrides], cores=1)
    return Path(folder.name)


def _overrides(output: Path) -> list[str]:
    return [
        f"source.path={_folder() / 'data'}",
        "source.origin=simulated",
        "source.eeg=raw",
        f"output={output}",
    ]


def _recording(config: PreprocessConfig) -> Recording:
    from preprocessing.layouts.selection import select_recordings

    (recording,) = select_recordings(config.source).whole()
    return recording


def _shard(config: PreprocessConfig) -> Shard:
    (run,) = read_headers([_recording(config)], config)
    return examine(shard_of(run.recording, config, run.header))


def _record(config: PreprocessConfig) -> dict:
    shard = shard_folder(config.output) / f"{_recording(config).key}.h5"
    return read_record(record_path(shard))


def _page_cost(config: PreprocessConfig) -> dict:
    return read_record(page_cost_path(shard_folder(config.output) / f"{_recording(config).key}.h5"))


def _stage_line(name: str, stages: dict[str, float]) -> str:
    return f"{name}: " + ", ".join(f"{stage} {value:.1f} s" for stage, value in stages.items())


def _stages_side_by_side(ours: dict[str, float], chain: dict[str, float]) -> list[str]:
    """A table of what is done where: EEG, registration, volumes, the rest."""

    def total(stages: dict[str, float], *beginnings: str) -> float:
        return sum(value for stage, value in stages.items() if stage.startswith(beginnings))

    rows = [
        ("EEG", total(ours, "EEG"), total(chain, "EEG")),
        ("registration", total(ours, "registration"), total(chain, "BOLD: registration")),
        (
            "volumes onto the grid, written",
            total(ours, "shard"),
            total(chain, "BOLD: read", "BOLD: warp", "BOLD: resize", "write"),
        ),
        ("the rest", total(ours, "quality page", _REST), total(chain, "imports")),
    ]
    cells = [(name, f"{a:.1f}", f"{b:.1f}", f"{b / a:.1f}") for name, a, b in rows]
    return [
        *table(("stage", "ours (CPU s)", "chain (CPU s)", "ratio"), cells),
        _stage_line("chain", chain),
    ]
