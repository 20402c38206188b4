"""Which channels of a recording are scalp EEG, and which shows the heart."""

from __future__ import annotations

import re

import numpy as np

from eeg2fmri_dist.config.preprocess import EegConfig
from eeg2fmri_dist.errors import DataError
from preprocessing.eeg.continuous import ContinuousEeg


def scalp_channels(eeg: ContinuousEeg, config: EegConfig) -> np.ndarray:
    """Channels of type EEG that the config does not exclude.

    Parameters
    ----------
    eeg : ContinuousEeg
        The recording.
    config : EegConfig
        ``drop_channels`` and ``min_channels``.

    Returns
    -------
    array (channel,) of int
        Positions in the file, in its order.

    Raises
    ------
    DataError
        If fewer than ``min_channels`` are left.
    """
    # "O1" must not take "O10" with it.
    beginnings = [
        re.escape(name) + (r"(?!\d)" if name[-1:].isdigit() else "")
        for name in config.drop_channels
    ]
    excluded = re.compile("|".join(beginnings) or "(?!)", re.IGNORECASE)
    channels = [
        position
        for position, name in enumerate(eeg.channel_names)
        if eeg.channel_types[position] == "eeg" and not excluded.match(name)
    ]
    if len(channels) < config.min_channels:
        raise DataError(
            f"{len(channels)} scalp channels of {len(eeg.channel_names)} are left, "
            f"eeg.min_channels asks for {config.min_channels}; the recording has "
            + ", ".join(eeg.channel_names),
            where=eeg.header_path,
            remedy="check eeg.drop_channels, or lower eeg.min_channels",
        )
    return np.array(channels)


def ecg_channel(eeg: ContinuousEeg) -> int | None:
    """Position of the first ECG channel; None without one."""
    return next((i for i, kind in enumerate(eeg.channel_types) if kind == "ecg"), None)
