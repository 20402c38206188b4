"""The scores by name: label, unit, meaning, scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Score:
    """How a score is shown and what it means.

    Attributes
    ----------
    label, unit : str
        For tables and charts.
    meaning : str
        One sentence, with data range, mask and dimensionality.
    digits : int
        Decimals shown.
    scale : {"linear", "log"}
        Of its intervals; ``log`` where it cannot be negative.
    """

    label: str
    unit: str
    meaning: str
    digits: int = 2
    scale: Scale = "linear"


_PAPER = "volumes z-scored with the training mean and deviation, data range max − min of the truth"


_PEER = "each volume scaled to [0,\u00a01] by its own minimum and maximum, data range 1"


SCORES = {
    "r_region": Score(
        "r, regions",
        "",
        "Pearson correlation over time of each region's mean BOLD with the truth, mean over "
        "regions. 0 = no relation in time, 1 = perfect. The headline.",
    ),
    "ceiling_normalized_r2": Score(
        "of explainable",
        "%",
        "Share of the variance that can be explained at all: r of regions as a share of the r of "
        "the noise-free BOLD that the EEG shows, squared, sign kept. Simulated data only.",
        0,
    ),
    "r_region_gsr": Score(
        "r, regions, without global signal",
        "",
        "The same after the mean over regions has been regressed out of prediction and truth. "
        "Breathing, movement and vigilance reach BOLD and EEG alike, in the whole brain at once: a "
        "score that is gone here may be theirs.",
    ),
    "r_voxel": Score(
        "r, voxels",
        "",
        "The same for every brain voxel, mean over voxels; constant voxels count 0.",
    ),
    "ev_region": Score(
        "EV, regions",
        "",
        "Explained variance over time of regional means, mean over regions: the amplitude counts. "
        "0 = no better than a constant image, below 0 = worse, 1 = perfect.",
    ),
    "ev_voxel": Score(
        "EV, voxels",
        "",
        "The same for every brain voxel, mean over voxels.",
    ),
    "std_ratio": Score(
        "s.d. ratio",
        "",
        "Temporal standard deviation of regional means, prediction / truth. Near 0 = one constant "
        "image; above 1.5 = it wanders.",
        scale="log",
    ),
    "fc_similarity": Score(
        "FC similarity",
        "",
        "Correlation of the upper triangles of predicted and true region-by-region correlation "
        "matrices (functional connectivity).",
    ),
    "fc_distance": Score(
        "FC distance",
        "",
        "Affine-invariant distance of the two matrices (shrunk by 0.1 toward the identity), "
        "divided by the root of the number of regions. 0 = equal.",
        scale="log",
    ),
    "identification_accuracy": Score(
        "Identified",
        "",
        "Share of recordings whose predicted correlation matrix is most similar to their own true "
        "one, of all that are scored; by chance 1 / recordings.",
        scale="log",
    ),
    "coherence": Score(
        "Coherence",
        "",
        "Magnitude-squared coherence of regional means over frequencies, Welch windows of up to 32 "
        "volumes. Forgives delay and sign; unrelated series have about 1 / windows.",
    ),
    "lag_trs": Score(
        "Lag",
        "TR",
        "By how many TRs the prediction comes late (negative: early): where r of regions is "
        "highest, within 5.",
        1,
    ),
    "r_at_lag": Score("r at that lag", "", "r of regions of the prediction moved back by its lag."),
    "noncausal_fraction": Score(
        "Later EEG",
        "",
        "Change of volumes when EEG recorded after them is replaced, as a share of their change "
        "when all EEG is replaced. 0 = causal.",
        scale="log",
    ),
    "psnr_zscore_db": Score("PSNR, paper", "dB", f"Whole grid; {_PAPER}.", 1),
    "psnr_zscore_masked_db": Score("PSNR, paper, brain", "dB", f"Brain voxels; {_PAPER}.", 1),
    "psnr_minmax_db": Score("PSNR, [0,\u00a01]", "dB", f"Whole grid; {_PEER}.", 1),
    "psnr_minmax_masked_db": Score("PSNR, [0,\u00a01], brain", "dB", f"Brain voxels; {_PEER}.", 1),
    "ssim2d_zscore": Score("SSIM 2-D, paper", "", f"Axial slices, whole grid; {_PAPER}.", 3),
    "ssim2d_zscore_masked": Score("SSIM 2-D, paper, brain", "", f"Brain voxels; {_PAPER}.", 3),
    "ssim2d_minmax": Score("SSIM 2-D, [0,\u00a01]", "", f"Axial slices, whole grid; {_PEER}.", 3),
    "ssim2d_minmax_masked": Score("SSIM 2-D, [0,\u00a01], brain", "", f"Brain voxels; {_PEER}.", 3),
    "ssim3d_zscore": Score("SSIM 3-D, paper", "", f"3-D window, whole grid; {_PAPER}.", 3),
    "ssim3d_zscore_masked": Score("SSIM 3-D, paper, brain", "", f"3-D window, brain; {_PAPER}.", 3),
    "ssim3d_minmax": Score("SSIM 3-D, [0,\u00a01]", "", f"3-D window, whole grid; {_PEER}.", 3),
    "ssim3d_minmax_masked": Score(
        "SSIM 3-D, [0,\u00a01], brain", "", f"3-D window, brain; {_PEER}.", 3
    ),
    "rmse_zscore": Score("RMSE, paper", "", f"Whole grid; {_PAPER}.", 4, "log"),
    "rmse_zscore_masked": Score("RMSE, paper, brain", "", f"Brain voxels; {_PAPER}.", 4, "log"),
    "mse_zscore": Score("MSE, paper", "", f"Whole grid; {_PAPER}.", 4, "log"),
    "mse_zscore_masked": Score("MSE, paper, brain", "", f"Brain voxels; {_PAPER}.", 4, "log"),
    "mse_minmax": Score("MSE, [0,\u00a01]", "", f"Whole grid; {_PEER}.", 4, "log"),
    "mse_minmax_masked": Score("MSE, [0,\u00a01], brain", "", f"Brain voxels; {_PEER}.", 4, "log"),
}


Scale = Literal["linear", "log"]
