"""The steps of one recording, each run on a worker. Heavy libraries are imported there."""

from __future__ import annotations

from dataclasses import asdict, replace
from importlib import metadata
from typing import TYPE_CHECKING, Any

from eeg2fmri_dist.config.preprocess import PreprocessConfig
from eeg2fmri_dist.errors import DataError
from eeg2fmri_dist.files.atomic import write_json
from preprocessing.bold.bold_run import open_run
from preprocessing.job.cost import Cost, Meter
from preprocessing.job.shard_record import record_path
from preprocessing.job.shards import METHOD_VERSION, Shard, make_record, quality_folder
from preprocessing.job.summary import Row
from preprocessing.recordings import Recording

if TYPE_CHECKING:
    import nibabel as nib

    from eeg2fmri_dist.store import Layout, RecordingEntry
    from preprocessing.bold.bold_run import BoldRun
    from preprocessing.bold.registration import Registration
    from preprocessing.bold.resampling import BoldVolumes
    from preprocessing.eeg.features import EegFeatures

# Software that decides the values.
PACKAGES = ("eeg2fmri_dist", "numpy", "scipy", "mne", "nibabel", "nilearn", "antspyx", "h5py")


def register(recording: Recording, config: PreprocessConfig) -> tuple[Registration, Cost]:
    """Register the run's mean EPI with the template; return the registration and its cost."""
    from preprocessing.bold import registration

    meter = Meter()
    run = open_run(recording, config)
    mean = run.mean(config.dummy_scans)
    try:
        registered = registration.register(mean, run.affine, config.bold, _t1(recording, config))
    except registration.GateError as error:
        if config.quality and error.registration is not None:
            _draw_failure(recording, config, error, error.registration)
        raise
    return registered, meter.cost()


def eeg(recording: Recording, config: PreprocessConfig) -> tuple[EegFeatures, Cost]:
    """Compute the power of each volume; return the features and their cost."""
    from preprocessing.eeg.features import eeg_features
    from preprocessing.quality.known_truth import with_residual

    meter = Meter()
    run = open_run(recording, config)
    features = eeg_features(recording, run.n_volumes, run.tr_s, config.eeg, config.dummy_scans)
    features = with_residual(features, recording, run.tr_s, config.eeg, config.dummy_scans)
    return features, meter.cost()


def make_shard(
    shard: Shard,
    config: PreprocessConfig,
    registered: tuple[Registration, Cost],
    features: tuple[EegFeatures, Cost],
) -> Row:
    """Bring the run onto the grid, write the shard and its record; return the summary's row."""
    from eeg2fmri_dist.store import Store, write_shard
    from preprocessing.quality import page_evidence
    from preprocessing.quality.gather_evidence import Preprocessed, confounds_of, gather

    meter = Meter()
    recording = shard.recording
    run = open_run(recording, config)
    # Cut EEG may end before the run does.
    covered = replace(run, n_volumes=config.dummy_scans + len(features[0].power))
    bold = _bold(recording, covered, registered[0], config)
    shard = replace(shard, sources=tuple(source.hashed() for source in shard.sources))
    confounds = confounds_of(bold)
    evidence, quality = gather(
        Preprocessed(recording, run, registered[0], bold, features[0]), confounds, config
    )
    write_shard(
        shard.path,
        _layout(shard.settings, features[0], bold),
        _entry(shard, run, len(bold.volumes), quality),
        features[0].power,
        bold.volumes,
        config.compression,
        confounds,
    )
    page_evidence.save_evidence(page_evidence.evidence_path(shard.path), evidence)
    costs = {"registration": registered[1], "EEG features": features[1], "shard": meter.cost()}
    row = Row(
        recording=shard.key,
        state="computed",
        n_volumes=len(bold.volumes),
        dice=float(quality["dice"]),
        transform=str(quality["transform"]),
        seconds=sum(cost.seconds for cost in costs.values()),
        message="; ".join(_remarks(quality)),
        costs={step: asdict(cost) for step, cost in costs.items()},
    )
    record = make_record(shard, row, Store(shard.path).fingerprint, page_evidence.VERSION)
    write_json(record_path(shard.path), record.to_json())
    return row


def _draw_failure(
    recording: Recording, config: PreprocessConfig, error: DataError, refused: Registration
) -> None:
    from preprocessing.quality.page import failure_name, write_failure

    page = quality_folder(config.output) / failure_name(recording.key)
    write_failure(page, recording.key, str(error), refused)


def _t1(recording: Recording, config: PreprocessConfig) -> nib.Nifti1Image | None:
    from preprocessing.bold.anatomical import load_t1

    if config.bold.spatial_normalization == "direct_epi" or recording.t1_path is None:
        return None
    return load_t1(recording.t1_path)


def _bold(
    recording: Recording, run: BoldRun, registered: Registration, config: PreprocessConfig
) -> BoldVolumes:
    from preprocessing.bold.resampling import preprocess_bold
    from preprocessing.bold.slice_timing import slice_times_s

    order = config.bold.slice_timing
    times_s = None if order == "off" else slice_times_s(recording, run, order)
    return preprocess_bold(run, registered, config.bold, config.dummy_scans, times_s)


def _layout(settings: dict[str, Any], features: EegFeatures, bold: BoldVolumes) -> Layout:
    from eeg2fmri_dist.store import Layout
    from preprocessing.template.mni import SPACE

    return Layout(
        channel_names=features.channel_names,
        frequencies_hz=features.frequencies_hz,
        eeg_unit=features.unit,
        mask=bold.mask,
        affine=bold.affine,
        # The merge adds them: other region labels need no other shards.
        atlases={},
        preprocessing={"method": METHOD_VERSION, **settings},
        versions={name: metadata.version(name) for name in PACKAGES},
        space=SPACE,
    )


def _entry(
    shard: Shard,
    run: BoldRun,
    n_samples: int,
    quality: dict[str, float | str | bool],
) -> RecordingEntry:
    from eeg2fmri_dist.store import RecordingEntry, SourceFile

    recording = shard.recording
    files = [source.hashed().to_json(shard.root) for source in shard.sources]
    return RecordingEntry(
        subject=recording.subject,
        session=recording.session,
        task=recording.task,
        run=recording.run,
        tr_s=run.tr_s,
        first_sample=0,
        n_samples=n_samples,
        sources=tuple(SourceFile(file["path"], file["size"], file["sha256"]) for file in files),
        quality=quality,
    )


def _remarks(quality: dict[str, float | str | bool]) -> list[str]:
    """What a person should know about a recording that went through."""
    remarks = []
    if quality.get("syn_rejected"):
        remarks.append("SyN was no better than affine, which is used")
    if quality.get("t1_rejected"):
        remarks.append("the way over the T1 did not fit, the direct one is used")
    if quality["tr_mismatch"]:
        remarks.append(str(quality["tr_mismatch"]))
    return remarks
