"""A pair of domains: training moves scans toward the other domain, resumes after a kill, and is kept."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mrharmony.core.findings import MrharmonyError
from mrharmony.networks.cyclegan.networks import OUTSIDE, CycleGanSettings, from_units, to_units
from mrharmony.networks.cyclegan.pair import TrainedPair, join_pairs, load_pairs, save_pairs, translate_brain
from mrharmony.networks.cyclegan.training import CycleGan, ImagePool, UnpairedSlices, rate_share, train_pair
from mrharmony.simulate.heads import virtual_head
from mrharmony.simulate.scanner import load_scanners
from mrharmony.simulate.scanning import scan_head
from mrharmony.space.grid import Grid
from mrharmony.space.intensity import intensity_scale

GRID, CPU = Grid.working(4.0), torch.device("cpu")
SCANNERS = ("mprage-3t", "spgr-1.5t")
NAMES = ("one", "other")


def scanned(head, scanner: str, seed: int) -> np.ndarray:
    """A virtual head as a scanner saw it, canonical units, 0 outside the brain."""
    voxels = scan_head(head, load_scanners()[scanner], np.random.default_rng(seed)).voxels
    inside = head.brain_mask
    return np.where(inside, voxels / intensity_scale(voxels[inside]), 0).astype(np.float32)


@pytest.fixture(scope="module")
def heads():
    return [virtual_head(np.random.default_rng(number), GRID) for number in range(5)]


@pytest.fixture(scope="module")
def brains(heads):
    """Two people on the first scanner, two others on the second."""
    pairs = zip(SCANNERS, (heads[:2], heads[2:4]), strict=True)
    return tuple(
        np.stack([scanned(head, scanner, 7) for head in people]).astype(np.float16)
        for scanner, people in pairs
    )


@pytest.fixture(scope="module")
def pair(brains, tmp_path_factory) -> TrainedPair:
    # A weak cycle moves soonest, and lets a test be short.
    settings = small(
        channels=8,
        discriminator_channels=8,
        discriminator_layers=2,
        cycle_weight=1.0,
        learning_rate=4e-3,
        ema_decay=0.98,
        steps=150,
        checkpoint_every=75,
    )
    return train_pair(NAMES, brains, settings, tmp_path_factory.mktemp("pair"), CPU)


def small(**changes) -> CycleGanSettings:
    given = {"channels": 4, "blocks": 1, "discriminator_channels": 4, "steps": 5, "checkpoint_every": 2}
    return CycleGanSettings(**(given | changes))


def test_an_unseen_head_comes_closer_to_its_true_scan_in_both_directions(pair, heads):
    seen = {name: scanned(heads[4], scanner, 9) for name, scanner in zip(NAMES, SCANNERS, strict=True)}
    inside = heads[4].brain_mask
    for source, target in (NAMES, NAMES[::-1]):
        made = translate_brain(pair.toward(source, target), seen[source], inside)
        before, after = (np.square(image - seen[target])[inside].mean() for image in (seen[source], made))
        assert after < 0.8 * before
        assert not made[~inside].any()
        assert (made >= 0).all()


def test_a_pair_serves_its_two_domains_only(pair):
    assert pair.toward("one", "other") is pair.to_second
    assert pair.toward("other", "one") is pair.to_first
    assert pair.toward("one", "third") is None
    assert pair.toward("one", "one") is None
    assert pair.record.core_minutes > 0


@pytest.mark.parametrize(("generator", "norm"), [("tone", "none"), ("convolutional", "instance")])
@pytest.mark.parametrize(("slices", "positions"), [(1, False), (3, True)])
def test_a_killed_run_gives_the_weights_of_one_that_was_not(
    brains, generator, norm, slices, positions, tmp_path, monkeypatch
):
    settings = small(generator=generator, norm=norm, slices=slices, positions=positions, pool=3)
    whole = train_pair(NAMES, brains, settings, tmp_path / "whole", CPU)
    draw, drawn = UnpairedSlices.batch, []

    def mortal(self, size, generator):
        drawn.append(size)
        if len(drawn) == 4:
            raise KeyboardInterrupt
        return draw(self, size, generator)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(UnpairedSlices, "batch", mortal)
        train_pair(NAMES, brains, settings, tmp_path / "killed", CPU)
    resumed = train_pair(NAMES, brains, settings, tmp_path / "killed", CPU)
    for one, other in ((whole.to_first, resumed.to_first), (whole.to_second, resumed.to_second)):
        assert all(map(torch.equal, one.parameters(), other.parameters()))


def test_another_run_does_not_take_up_a_checkpoint_of_other_scans(brains, tmp_path):
    train_pair(NAMES, brains, small(steps=2), tmp_path, CPU)
    train_pair(NAMES, (brains[0][:1], brains[1]), small(steps=2), tmp_path, CPU)
    train_pair(NAMES, brains, small(steps=2, seed=1), tmp_path, CPU)
    assert len(list(tmp_path.iterdir())) == 3


def test_the_weights_and_the_record_are_read_as_they_were_written(pair, tmp_path):
    save_pairs(tmp_path, [pair])
    (again,) = load_pairs(tmp_path)
    assert again.record == pair.record
    for one, other in ((pair.to_first, again.to_first), (pair.to_second, again.to_second)):
        assert all(map(torch.equal, one.parameters(), other.parameters()))
    assert '"core_minutes"' in (tmp_path / "cyclegan.json").read_text("utf-8")


def test_a_pair_trained_again_takes_the_place_of_the_earlier_one(pair):
    swapped = TrainedPair(
        pair.record.model_copy(update={"first": "other", "second": "one"}), pair.to_second, pair.to_first
    )
    third = TrainedPair(pair.record.model_copy(update={"second": "third"}), pair.to_first, pair.to_second)
    assert join_pairs([pair, third], [swapped]) == (swapped, third)


def test_damaged_and_missing_files_are_refused(tmp_path: Path):
    with pytest.raises(MrharmonyError, match="train them again"):
        load_pairs(tmp_path)
    (tmp_path / "cyclegan.safetensors").write_bytes(b"damaged")
    with pytest.raises(MrharmonyError, match="train them again"):
        load_pairs(tmp_path)


def test_pairs_that_cannot_be_trained_are_refused(brains, tmp_path):
    with pytest.raises(MrharmonyError, match="other: has no scans"):
        train_pair(NAMES, (brains[0], brains[1][:0]), small(), tmp_path, CPU)
    with pytest.raises(MrharmonyError, match="brain mask"):
        nothing = np.zeros(GRID.shape, np.float32)
        translate_brain(CycleGan(small(), (6, 40, 40)).to_first, nothing, nothing > 0)


def test_generators_and_discriminators_learn_only_their_own_part(brains):
    settings = small(cycle_weight=0.0, identity_weight=0.0)
    torch.manual_seed(0)
    data = UnpairedSlices(*brains, settings)
    state = CycleGan(settings, data.shape)
    batch = data.batch(2, torch.Generator().manual_seed(0))
    state.loss(batch, torch.Generator().manual_seed(0)).backward()
    made = state.to_second(batch.first, batch.first[:, : settings.slices] > OUTSIDE)
    judged = (state.discriminator_second(batch.second) - 1).square().mean() / 2
    judged = judged + state.discriminator_second(made.detach()).square().mean() / 2
    wanted = torch.autograd.grad(judged, list(state.discriminator_second.parameters()))
    for parameter, gradient in zip(state.discriminator_second.parameters(), wanted, strict=True):
        assert torch.allclose(parameter.grad, gradient, atol=1e-6)
    fooling = (state.discriminator_second(made) - 1).square().mean()
    wanted = torch.autograd.grad(fooling, list(state.to_second.parameters()))
    for parameter, gradient in zip(state.to_second.parameters(), wanted, strict=True):
        assert torch.allclose(parameter.grad, gradient, atol=1e-6)


def test_the_pool_fills_and_then_shows_earlier_images_half_of_the_time():
    pool, generator = ImagePool(5, (1,)), torch.Generator().manual_seed(0)
    shown = [float(pool.exchange(torch.full((1, 1), float(n)), generator)) for n in range(305)]
    assert shown[:5] == [0, 1, 2, 3, 4]
    late = np.array(shown[5:]) < np.arange(5, 305)
    assert 0.4 < late.mean() < 0.6
    assert len(set(shown[5:])) == 300  # what has left the pool does not come back


@given(st.integers(1, 2000), st.floats(0, 1))
def test_the_rate_is_whole_at_first_and_never_rises(steps: int, decay: float):
    settings = CycleGanSettings(steps=steps, decay_share=decay)
    shares = [rate_share(step, settings) for step in range(steps)]
    assert shares[0] == 1
    assert all(later <= earlier for earlier, later in pairwise(shares))
    assert shares[-1] > 0


@given(st.floats(0, 2, width=32))
def test_units_lead_back_to_canonical_intensities(intensity: float):
    assert float(from_units(to_units(torch.tensor(intensity)))) == pytest.approx(intensity, abs=1e-6)


def test_the_published_form_gives_the_slice_itself_and_the_default_begins_with_no_change(brains):
    for settings, changed in ((CycleGanSettings.preset("published"), True), (CycleGanSettings(), False)):
        data = UnpairedSlices(*brains, settings)
        seen = data.batch(2, torch.Generator().manual_seed(0)).first
        inside = seen[:, : settings.slices] > OUTSIDE
        made = CycleGan(settings, data.shape).to_first(seen, inside)
        assert torch.equal(made, seen) != changed
        assert (made[:, : settings.slices][~inside] == OUTSIDE).all()


def test_positions_say_where_in_the_head_a_slice_lies(brains):
    first = UnpairedSlices(*brains, small(positions=True)).batch(8, torch.Generator().manual_seed(0)).first
    across, up, along = first[:, 3:].unbind(1)
    assert torch.equal(across, across.flip(1))  # left and right are alike, as slices are mirrored
    assert (up.diff(dim=2) > 0).all()
    assert torch.equal(along.amin((1, 2)), along.amax((1, 2)))
    assert len(along.amin((1, 2)).unique()) > 1
    assert first[:, 3:].abs().max() <= 1


def test_settings_are_read_from_a_file_or_refused(tmp_path: Path):
    file = tmp_path / "settings.yaml"
    file.write_text("channels: 4\nsteps: 3\n")
    assert CycleGanSettings.preset(str(file)) == CycleGanSettings(channels=4, steps=3)
    file.write_text("chanels: 4\n")
    with pytest.raises(MrharmonyError, match="chanels"):
        CycleGanSettings.preset(str(file))
    with pytest.raises(MrharmonyError, match="no such preset or file"):
        CycleGanSettings.preset("nowhere.yaml")
