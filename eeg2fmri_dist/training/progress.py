"""Where a training stands, and which of its models is the best so far."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from eeg2fmri_dist.training.validation import ValidationScores, is_clear_gain


@dataclass
class Progress:
    """Where a training stands, beside weights, optimizer and sampler.

    Attributes
    ----------
    step : int
        Optimizer steps done.
    validated_epoch : int
        Epochs whose end was validated.
    best_score : float
        Selection score of the checkpoint that is kept as the best.
    highest_score : float
        Highest selection score so far, kept or not (see `leaves_start`).
    stale_validations : int
        Validations since the highest.
    start_by_subject : dict of str to float
        The selection score of each validation subject before the first step; empty where a model
        starts at nothing worth keeping.
    loss_sum, loss_count : float
        Training losses of the running epoch.
    """

    step: int = 0
    validated_epoch: int = 0
    best_score: float = -math.inf
    highest_score: float = -math.inf
    stale_validations: int = 0
    loss_sum: float = 0.0
    loss_count: int = 0
    start_by_subject: dict[str, float] = field(default_factory=dict)

    @property
    def mean_loss(self) -> float:
        """Mean training loss of the running epoch; 0 before its first step."""
        return self.loss_sum / max(1, self.loss_count)

    @property
    def has_checkpoint(self) -> bool:
        """True from the first step, or from a start that was worth keeping."""
        return self.step > 0 or bool(self.start_by_subject)

    def note_loss(self, loss: float) -> None:
        """Count the loss of a step."""
        self.loss_sum += loss
        self.loss_count += 1

    def begin_epoch_after(self, epoch: int) -> None:
        """Note that an epoch's end was validated."""
        self.validated_epoch = epoch
        self.loss_sum, self.loss_count = 0.0, 0

    def note_score(self, scores: ValidationScores, margin: float) -> bool:
        """Compare with the scores so far; return whether this model is to be kept as the best.

        Parameters
        ----------
        scores : ValidationScores
            Of this model.
        margin : float
            Standard errors by which it must leave a start that was worth keeping.
        """
        score = scores.selection
        rises = score > self.highest_score
        self.stale_validations = 0 if rises else self.stale_validations + 1
        self.highest_score = max(score, self.highest_score)
        is_best = score > self.best_score and self.leaves_start(scores, margin)
        if is_best:
            self.best_score = score
        return is_best

    def leaves_start(self, scores: ValidationScores, margin: float) -> bool:
        """True unless the model's start was worth keeping and the gain over it is not clear."""
        start = self.start_by_subject
        return not start or is_clear_gain(scores.selection_by_subject, start, margin)
