"""One number for how bright a brain is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mrharmony.volume import MrharmonyError

_PERCENTILE = 95.0


def intensity_scale(brain_intensities: NDArray[np.floating]) -> float:
    """Return the intensity that becomes 1.0 in canonical units.

    Parameters
    ----------
    brain_intensities
        Bias-corrected intensities of brain voxels, any shape; a random part of the brain will do.

    Raises
    ------
    MrharmonyError
        Where the brain is empty, not finite, or not brighter than 0.
    """
    values = np.asarray(brain_intensities)
    scale = float(np.percentile(values, _PERCENTILE)) if values.size else 0.0
    if not np.isfinite(scale) or scale <= 0:
        raise MrharmonyError(
            "the brain has no positive intensities: check that the scan is a T1w image in magnitude units."
        )
    return scale
