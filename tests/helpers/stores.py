"""Small stores with a known EEG-to-BOLD coupling, made at feature level (no preprocessing)."""

from pathlib import Path

import numpy as np

from eeg2fmri_dist.store import Atlas, Layout, RecordingEntry, merge, write_shard

FREQUENCIES_HZ = np.arange(1.0, 31.0)
CHANNELS = ("Fp1", "Fp2", "Cz", "Pz", "O1", "O2")
REGIONS = 4
TR_S = 2.0
GRID = (12, 12, 8)


def make_store(
    path: Path,
    n_subjects: int = 4,
    n_volumes: int = 40,
    coupling: float = 1.0,
    grid: tuple[int, int, int] = GRID,
    seed: int = 0,
    scale: str = "log",
    runs: dict[str, int] | None = None,
) -> Path:
    """Write a store: regional BOLD is HRF-convolved alpha power times `coupling`, plus noise.

    It follows the logarithm of power or, with `scale` "power", power itself.
    `runs` says who was recorded more than once.
    """
    rng = np.random.default_rng(seed)
    layout = make_layout(grid)
    shards = []
    of_subject = {f"{number + 1:02d}": 1 for number in range(n_subjects)} | (runs or {})
    recorded = [(who, run) for who, count in of_subject.items() for run in range(count)]
    for subject, run in recorded:
        eeg, bold = make_recording(rng, layout, n_volumes, coupling)
        if scale == "power":
            eeg = np.maximum(np.log(eeg) + 4, 0.01)
        entry = RecordingEntry(
            subject=subject,
            session="",
            run=str(run) if run else "",
            tr_s=TR_S,
            first_sample=0,
            n_samples=n_volumes,
            sources=(),
            quality={},
        )
        shard = path.parent / f"{path.stem}-{subject}{run or ''}.h5"
        write_shard(shard, layout, entry, eeg, bold)
        shards.append(shard)
    merge(shards, path)
    return path


def make_layout(grid: tuple[int, int, int] = GRID) -> Layout:
    """Return a layout with a block-shaped mask and four regions, one a quadrant."""
    mask = np.zeros(grid, bool)
    mask[1:-1, 1:-1, 1:-1] = True
    quadrant = 1 + (np.arange(grid[0])[:, None] >= grid[0] // 2) * 2
    quadrant = quadrant + (np.arange(grid[1])[None, :] >= grid[1] // 2)
    labels = np.where(mask, quadrant[:, :, None], 0).astype(np.int16)
    names = ("Background", *(f"Region {number + 1}" for number in range(REGIONS)))
    return Layout(
        channel_names=CHANNELS,
        frequencies_hz=FREQUENCIES_HZ,
        eeg_unit="uV^2",
        mask=mask,
        affine=np.diag([3.0, 3.0, 4.0, 1.0]),
        atlases={"quadrants": Atlas(labels, names, "made for tests")},
        preprocessing={"dummy_scans": 5},
        versions={},
        space="MNI152NLin6Asym",
    )


def make_recording(rng, layout: Layout, n_volumes: int, coupling: float):
    """Return EEG power (volume, channel, frequency) and BOLD (volume, x, y, z) of one subject."""
    from eeg2fmri_dist.models.hrf import canonical_hrf

    drive = rng.standard_normal((n_volumes + 20, REGIONS))
    drive = np.apply_along_axis(np.convolve, 0, drive, np.ones(3) / 3, mode="same")
    mixing = np.abs(np.random.default_rng(7).standard_normal((len(CHANNELS), REGIONS)))
    log_power = 0.1 * rng.standard_normal((n_volumes + 20, len(CHANNELS), len(FREQUENCIES_HZ)))
    log_power[:, :, 7:12] += (drive @ mixing.T)[:, :, None]
    response = canonical_hrf(TR_S)
    slow = np.stack([np.convolve(drive[:, r], response)[: len(drive)] for r in range(REGIONS)], 1)
    slow = slow[20:] / slow[20:].std(axis=0)
    labels = next(iter(layout.atlases.values())).labels
    change = np.zeros((n_volumes, *labels.shape))
    for region in range(REGIONS):
        change[:, labels == region + 1] = 0.02 * coupling * slow[:, region, None]
    anatomy = 500 + 100 * rng.random(labels.shape)
    noise = 0.01 * rng.standard_normal(change.shape)
    bold = np.where(layout.mask, anatomy * (1 + change + noise), 0)
    return np.exp(log_power[20:]).astype(np.float32), bold.astype(np.float32)
