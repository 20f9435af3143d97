"""How far an expected contrast leans on the curve between source and target: as far as the two agree.

Both err. The contrast that a network reads errs by what it misreads, e. The curve from the average scan of
the source to that of the target, applied to the head's contrast in the source, errs by how far the people of
one domain differ from those of the other, p. Their difference is known, and for errors that have nothing to
do with each other

    mean (expected - by the curve)² ≈ e² + p².

e shows in the source, where the scan itself tells the contrast that was to be read; a part of what shows
there is the session's. Weights inverse to the squared errors make the least error, so the share of the curve
is e² / (e² + p²). Where people differ much, or a domain has a single scan, p is large and little is taken.
One curve for the whole brain moves all borders of tissue alike, so it adds no drift of volumes, which
regional curves do.
"""

from __future__ import annotations

import numpy as np

from mrharmony.core.volume import FloatArray

_GREATEST_SHARE = 0.5
_MISREAD = 0.5  # of the mean square that shows in the source; the rest is taken for the session's


def leaning(expected: FloatArray, by_curve: FloatArray, own: FloatArray, in_source: FloatArray) -> FloatArray:
    """Return the expected contrast drawn toward that of the curve, at most half of the way.

    Parameters
    ----------
    expected, by_curve
        Contrast of the head in the target, canonical units, shape (n,): as the network reads it, and by the
        curve.
    own, in_source
        The scan as its own reference contrasts explain it, and its contrast in the source.
    """
    misread, apart = _MISREAD * _mean_square(own - in_source), _mean_square(expected - by_curve)
    share = misread / apart if misread < apart * _GREATEST_SHARE else _GREATEST_SHARE
    return np.asarray(expected + np.float32(share) * (by_curve - expected))


def _mean_square(difference: FloatArray) -> float:
    return float(np.mean(np.square(difference, dtype=np.float64)))
