"""Several models as one."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn


class Ensemble(nn.Module):
    """Models whose predictions are averaged (see `training.objectives.Averaging`).

    Parameters
    ----------
    members : sequence of nn.Module
        Models that predict volumes from the same EEG.
    """

    def __init__(self, members: Sequence[nn.Module]):
        super().__init__()
        self.members = nn.ModuleList(members)
