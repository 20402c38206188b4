"""One simulated subject: all its files, and the marker that says they are whole."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eeg2fmri_dist.config.simulate import SOURCE_SFREQ_HZ, SimulateConfig
from eeg2fmri_dist.files.atomic import write_json
from preprocessing.layouts import noddi
from preprocessing.simulation.brain.activity import Timeline, hidden_signal
from preprocessing.simulation.brain.anatomy import Anatomy, build_anatomy, build_t1
from preprocessing.simulation.brain.coupling import linear_share, nonlinear_drive, own_population
from preprocessing.simulation.brain.geometry import random_head_map
from preprocessing.simulation.brain.regions import BANDS, REGIONS, region_labels
from preprocessing.simulation.scanner import bold_measurement, eeg_measurement
from preprocessing.simulation.scanner.disturbances import bad_channels
from preprocessing.simulation.scanner.mri_artifacts import gradient_artifact
from preprocessing.simulation.scanner.write_nifti import write_nifti
from preprocessing.simulation.seeding import generator
from preprocessing.simulation.truth import save_truth
from preprocessing.template.head_map import HeadMap

VERSION = 4  # raise it when the same config gives other files


@dataclass(frozen=True)
class SimulatedSubject:
    """Where a subject's files are.

    Attributes
    ----------
    subject : str
    raw_path, export_path : Path
        BrainVision headers.
    bold_path, t1_path : Path
        NIfTI files.
    truth_path : Path
        The ``.npz`` of `preprocessing.simulation.truth`.
    whole_path : Path
        Marker that is written last.
    """

    subject: str
    raw_path: Path
    export_path: Path
    bold_path: Path
    t1_path: Path
    truth_path: Path
    whole_path: Path

    @property
    def files(self) -> list[Path]:
        """All data files of the subject, without the marker."""
        eeg_files = [
            header.with_suffix(suffix)
            for header, binary in ((self.raw_path, ".eeg"), (self.export_path, ".dat"))
            for suffix in (".vhdr", ".vmrk", binary)
        ]
        return [*eeg_files, self.bold_path, self.t1_path, self.truth_path]


def subject_files(config: SimulateConfig, subject: str) -> SimulatedSubject:
    """Return where a subject's files belong."""
    root = config.output
    return SimulatedSubject(
        subject=subject,
        raw_path=noddi.eeg_header(root, subject, "raw"),
        export_path=noddi.eeg_header(root, subject, "export"),
        bold_path=noddi.bold_run(root, subject),
        t1_path=noddi.anatomy(root, subject),
        truth_path=noddi.truth_file(root, subject),
        whole_path=noddi.truth_file(root, subject).with_suffix(".json"),
    )


def is_up_to_date(config: SimulateConfig, subject: str) -> bool:
    """Whether a subject's files are whole and were made with these settings."""
    files = subject_files(config, subject)
    try:
        marker = json.loads(files.whole_path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return marker == _whole_marker(config, files)


def is_there(config: SimulateConfig, subject: str) -> bool:
    """Whether a subject was simulated in this place before, with these settings or others."""
    return subject_files(config, subject).whole_path.exists()


def simulate_subject(config: SimulateConfig, subject: str) -> SimulatedSubject:
    """Write all files of one subject; the marker of wholeness goes first and comes last.

    Parameters
    ----------
    config : SimulateConfig
    subject : str
        Id; what is written depends on it, the seed and the settings, not on other subjects.
    """
    files = subject_files(config, subject)
    files.whole_path.unlink(missing_ok=True)
    remove_unfinished(files)
    timeline = _timeline(config, subject)
    simulated = eeg_measurement.simulate_eeg(
        config.seed, subject, timeline, config.eeg, config.realism
    )
    _write_eeg(config, files, timeline, simulated)
    head_map = random_head_map(generator(config.seed, subject, "head"))
    _write_t1(config, files, head_map)
    anatomy = build_anatomy(generator(config.seed, subject, "epi"), head_map)
    regional, measured = _write_bold(config, files, timeline, anatomy, simulated)
    save_truth(
        files.truth_path,
        {
            **_known_regions(config),
            **_known_anatomy(anatomy, head_map),
            **_known_signals(timeline, simulated, regional, measured),
            **_known_realism(config, subject, simulated, regional),
        },
    )
    write_json(files.whole_path, _whole_marker(config, files))
    return files


def remove_unfinished(files: SimulatedSubject) -> None:
    """Delete temporary files that a killed process left in the subject's folders."""
    for path in files.files:
        for part in path.parent.glob(f".{path.name}.*.part"):
            part.unlink(missing_ok=True)


def _timeline(config: SimulateConfig, subject: str) -> Timeline:
    """The EEG starts some seconds before the scan and ends some seconds after it."""
    rng = generator(config.seed, subject, "timeline")
    lead_s = rng.integers(6 * SOURCE_SFREQ_HZ, 12 * SOURCE_SFREQ_HZ) / SOURCE_SFREQ_HZ
    tail_s = rng.integers(3 * SOURCE_SFREQ_HZ, 5 * SOURCE_SFREQ_HZ) / SOURCE_SFREQ_HZ
    onsets_s = lead_s + config.tr_s * np.arange(config.n_volumes)
    return Timeline(onsets_s, config.tr_s, float(onsets_s[-1] + config.tr_s + tail_s))


def _write_eeg(
    config: SimulateConfig,
    files: SimulatedSubject,
    timeline: Timeline,
    simulated: eeg_measurement.SimulatedEeg,
) -> None:
    def stated_stem(header: Path) -> str | None:
        return f"old_{header.stem}" if files.subject == config.stale_header else None

    raw_path, export_path = files.raw_path, files.export_path
    eeg_measurement.write_export(
        export_path, simulated.signal_uv, timeline, stated_stem=stated_stem(export_path)
    )
    drawn_by = (config.seed, files.subject)
    eeg_measurement.write_raw(
        raw_path,
        eeg_measurement.with_pulse_artifact(simulated, *drawn_by, timeline, config.artifacts),
        timeline,
        generator(*drawn_by, "amplifier"),
        sfreq_hz=config.sfreq_hz,
        artifact=gradient_artifact(*drawn_by, timeline, config.artifacts),
        stated_stem=stated_stem(raw_path),
    )


def _write_t1(config: SimulateConfig, files: SimulatedSubject, head_map: HeadMap) -> None:
    image, affine = build_t1(generator(config.seed, files.subject, "t1"), head_map)
    write_nifti(files.t1_path, image, affine)


def _write_bold(
    config: SimulateConfig,
    files: SimulatedSubject,
    timeline: Timeline,
    anatomy: Anatomy,
    simulated: eeg_measurement.SimulatedEeg,
) -> tuple[bold_measurement.RegionalBold, np.ndarray]:
    rng = generator(config.seed, files.subject, "bold")
    population = bold_measurement.population_weights(generator(config.seed, "coupling"))
    hrf_power = simulated.activity.hrf_power
    regional = bold_measurement.regional_bold(
        rng,
        own_population(config.seed, files.subject, population, config.realism.own_weights),
        hrf_power,
        hidden_signal(generator(config.seed, files.subject, "hidden"), timeline),
        coupling=config.coupling,
        between_subjects=config.between_subjects,
        neural_percent=config.bold.neural_percent,
        beside=nonlinear_drive(config.seed, population, hrf_power, config.realism),
        linear_share=linear_share(config.realism),
    )
    run = bold_measurement.simulate_run(
        rng,
        anatomy,
        regional,
        simulated.beats_s,
        timeline,
        config.bold,
        shared_percent=simulated.disturbances.shared_percent,
        motion=simulated.disturbances.motion,
    )
    write_nifti(files.bold_path, run, anatomy.affine, tr_s=timeline.tr_s)
    return regional, bold_measurement.regional_means(run, anatomy.labels)


def _known_regions(config: SimulateConfig) -> dict[str, np.ndarray]:
    labels = region_labels()
    return {
        "region_names": np.array([region.name for region in REGIONS]),
        "region_networks": np.array([region.network.name for region in REGIONS]),
        "region_mni_mm": np.stack([region.center_mm for region in REGIONS]),
        "bands": np.array(BANDS),
        "population_weights": bold_measurement.population_weights(
            generator(config.seed, "coupling")
        ),
        "labels_mni": np.asarray(labels.dataobj),
        "mni_affine": labels.affine,
    }


def _known_anatomy(anatomy: Anatomy, head_map: HeadMap) -> dict[str, np.ndarray]:
    return {
        "labels_native": anatomy.labels,
        "brain_native": anatomy.brain,
        "grey_matter_native": anatomy.grey_matter,
        "native_affine": anatomy.affine,
        "native_to_mni_mm": anatomy.mni_mm,
        "affine_scanner_to_mni": head_map.affine,
        "warp_mm": head_map.warp_mm,
        "inverse_warp_mm": head_map.inverse_warp_mm,
        "warp_affine": head_map.warp_affine,
    }


def _known_signals(
    timeline: Timeline,
    simulated: eeg_measurement.SimulatedEeg,
    regional: bold_measurement.RegionalBold,
    measured: np.ndarray,
) -> dict[str, np.ndarray]:
    return {
        "weights": regional.weights,
        "band_power": simulated.activity.band_power,
        "hrf_power": simulated.activity.hrf_power,
        "bold_driven": regional.driven,
        "bold_hidden": regional.hidden,
        "bold_measured": measured,
        "noise_ceiling": bold_measurement.noise_ceiling(regional.driven, measured),
        "leadfield_uv_per_nam": simulated.leadfield,
        "volume_onsets_s": timeline.onsets_s,
        "heartbeats_s": simulated.beats_s,
        "tr_s": np.array(timeline.tr_s),
    }


def _known_realism(
    config: SimulateConfig,
    subject: str,
    simulated: eeg_measurement.SimulatedEeg,
    regional: bold_measurement.RegionalBold,
) -> dict[str, np.ndarray]:
    """Nothing where nothing of it was asked for: the file is then what it always was."""
    realism, drawn = config.realism, simulated.disturbances
    if realism.is_off:
        return {}
    n_scalp, n_volumes = len(simulated.leadfield), config.n_volumes
    shared, motion = drawn.shared_percent, drawn.motion
    return {
        "bold_nonlinear": regional.nonlinear,
        "bold_shared_noise": np.zeros(n_volumes) if shared is None else shared,
        "head_motion": np.zeros((n_volumes, 6)) if motion is None else motion,
        "bad_channels": bad_channels(config.seed, subject, n_scalp, realism.bad_channels),
    }


def _whole_marker(config: SimulateConfig, files: SimulatedSubject) -> dict[str, object]:
    """Hash of what decides the content, and the size of each file (None where it is missing)."""
    settings = config.model_dump(
        mode="json", exclude={"output", "subjects", "workers", "stale_header"}
    )
    if not (config.artifacts.gradient_mv or config.artifacts.pulse_uv):
        del settings["artifacts"]  # as if there were no such section: files are what they were
    if config.realism.is_off:
        del settings["realism"]
    settings |= {"version": VERSION, "stale": files.subject == config.stale_header}
    text = json.dumps(settings, sort_keys=True)
    sizes = {
        str(path.relative_to(config.output)): path.stat().st_size if path.is_file() else None
        for path in files.files
    }
    return {"settings": hashlib.sha256(text.encode()).hexdigest(), "bytes": sizes}
