"""N4 before histogram matching: a residual bias field goes first."""

import numpy as np
import pytest

from helpers.phantoms import NEW, A, B, changed, phantom, prepared
from mrharmony.core.findings import MrharmonyError
from mrharmony.methods.registry import fit_method
from mrharmony.methods.tone_curves import BiasFirstRule, fit_after_bias

CONTRASTS = {"A": [phantom(1)], "B": [phantom(3, 1.8)]}


@pytest.fixture(scope="module")
def rule():
    return BiasFirstRule(fit_after_bias(CONTRASTS))


def test_a_bias_field_that_preparation_left_is_taken_out_before_matching(rule):
    truth = phantom(5, 1.8)
    shade = np.exp(0.02 * (np.indices(truth.mask.shape)[0] - 40)).astype(np.float32)
    shaded = prepared(changed(phantom(5), lambda s: s * shade))
    with_n4 = rule.intensities(shaded, None, B)
    without = fit_method("histogram", CONTRASTS).intensities(shaded, None, B)
    errors = [np.abs(v - truth.volume.voxels)[truth.mask].mean() for v in (with_n4, without)]
    assert errors[0] < 0.7 * errors[1]
    assert not with_n4[~truth.mask].any()


def test_an_unknown_target_is_refused_by_name(rule):
    with pytest.raises(MrharmonyError, match="NEW"):
        rule.intensities(prepared(phantom(5)), A, NEW)
