"""How good a result is: paired scores against the truth."""

from mrharmony.evaluate.paired import (
    DATA_RANGE,
    PairedScores,
    masked_ssim,
    mean_squared_error,
    paired_scores,
    peak_ratio,
)

__all__ = ["DATA_RANGE", "PairedScores", "masked_ssim", "mean_squared_error", "paired_scores", "peak_ratio"]
