import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mrharmony.networks.slices import TONE_RANGE, apply_structure_contrast, draw_structure_contrast


def _slices(seed: int) -> torch.Tensor:
    slices = torch.rand(3, 1, 16, 20, generator=torch.Generator().manual_seed(seed)) * TONE_RANGE
    slices[:, :, :4] = 0
    return slices


@given(seed=st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_the_background_stays_black_and_nothing_is_negative_or_nan(seed: int):
    slices = _slices(seed)
    contrast = draw_structure_contrast(slices.shape, torch.Generator().manual_seed(seed))
    copies = apply_structure_contrast(slices, contrast)
    assert torch.isfinite(copies).all()
    assert (copies >= 0).all()
    assert (copies[slices == 0] == 0).all()


@given(seed=st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_tone_curves_never_swap_two_intensities(seed: int):
    ramp = torch.linspace(0.01, TONE_RANGE, 64).reshape(1, 1, 8, 8)
    contrast = draw_structure_contrast(ramp.shape, torch.Generator().manual_seed(seed))
    plain = type(contrast)(contrast.tone, contrast.log_bias * 0, contrast.blur * 0, contrast.noise * 0)
    toned = apply_structure_contrast(ramp, plain).flatten()
    assert (toned.diff() >= 0).all()


def test_the_same_look_replays_the_same_copy():
    slices = _slices(1)
    contrast = draw_structure_contrast(slices.shape, torch.Generator().manual_seed(5))
    assert torch.equal(apply_structure_contrast(slices, contrast), apply_structure_contrast(slices, contrast))


def test_looks_differ_from_slice_to_slice():
    slices = _slices(1)[:1].expand(3, -1, -1, -1)
    contrast = draw_structure_contrast(slices.shape, torch.Generator().manual_seed(5))
    copies = apply_structure_contrast(slices, contrast)
    assert (copies[0] - copies[1]).abs().mean() > 0.01
