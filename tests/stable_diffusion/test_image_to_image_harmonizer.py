"""Image-to-image as a method: native grid, units, lock on and off, one result or all."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mrharmony.core.domain import Domain
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.volume import Volume
from mrharmony.domains.statistics import fit_statistics
from mrharmony.lock.bounds import LockSettings
from mrharmony.methods.image_to_image import ImageToImageHarmonizer
from mrharmony.networks.translation import TranslationSettings
from mrharmony.preparation.canonical import CanonicalBrain
from mrharmony.preparation.prepared import PreparedScan
from mrharmony.space.grid import Grid

GRID = Grid.working(4.0)
BRIGHT, DARK = Domain("bright", "ADNI2"), Domain("dark", "ADNI3")
QUICK = TranslationSettings(num_inference_steps=2, strength=0.5, guidance_scale=1.0)


@pytest.fixture(scope="module")
def scan() -> PreparedScan:
    """A small ball of two tissues, off the working grid: other voxels, other axes, units of 70."""
    affine = np.array([[-3.0, 0, 0, 40], [0, 3.0, 0, -55], [0, 0, 5.0, -30], [0, 0, 0, 1]])
    index = np.indices((26, 26, 16)).reshape(3, -1)
    world = (affine[:3, :3] @ index + affine[:3, 3:]).reshape(3, 26, 26, 16)
    distance = np.linalg.norm(world - np.array([0, -17, 5])[:, None, None, None], axis=0)
    voxels = np.select([distance < 15, distance < 28], [0.9, 0.6]).astype(np.float32) * 70
    bias = np.ones(voxels.shape, np.float32)
    return PreparedScan(Volume(voxels, affine), voxels > 0, bias, np.eye(4), 70.0, True, ())


@pytest.fixture(scope="module")
def statistics(scan: PreparedScan):
    brain, mask = scan.canonical(GRID)
    dark = brain.with_voxels(brain.voxels * np.float32(0.5))
    brains = {"bright": [CanonicalBrain(brain, mask, 70.0)], "dark": [CanonicalBrain(dark, mask, 300.0)]}
    return fit_statistics(brains)


@pytest.fixture
def raw(model, statistics) -> ImageToImageHarmonizer:
    return ImageToImageHarmonizer(model, GRID, statistics, QUICK)


@pytest.fixture
def locked(model, statistics) -> ImageToImageHarmonizer:
    return ImageToImageHarmonizer(model, GRID, statistics, QUICK, LockSettings())


@pytest.mark.parametrize("kind", ["raw", "locked"])
def test_the_result_has_the_native_grid_and_the_targets_units(kind: str, scan, request):
    method = request.getfixturevalue(kind)
    done = method.harmonize(scan, None, DARK)
    assert np.array_equal(done.volume.affine, scan.native.affine)
    assert np.isfinite(done.volume.voxels).all()
    assert not done.volume.voxels[~scan.brain_mask].any()
    assert done.scale == 300.0
    assert done.provenance["lock"] is (kind == "locked")
    assert done.provenance["strength"] == 0.5


def test_without_the_lock_the_result_is_the_picture(raw, scan):
    (picture,) = raw.pictures(scan, DARK)
    done = raw.harmonize(scan, None, DARK).volume.voxels / 300
    inside = GRID.voxel_of(scan.positions(scan.brain_mask)).round().astype(int)
    nearest = picture.voxels[tuple(inside.T)]
    assert np.corrcoef(nearest, done[scan.brain_mask])[0, 1] > 0.5
    assert done.max() <= picture.voxels.max() + 1e-5


def test_with_the_lock_a_constant_region_gets_no_edges(raw, locked, scan):
    flat = scan.native.with_voxels(np.where(scan.brain_mask, 40, 0))
    constant = PreparedScan(flat, scan.brain_mask, scan.bias_field, scan.rigid_to_template, 70.0, True, ())
    steps = [
        np.abs(np.diff(method.harmonize(constant, None, DARK).volume.voxels[8:18, 13, 8])).max() / 300
        for method in (raw, locked)
    ]
    assert steps[1] < min(steps[0], LockSettings().change_per_mm * 3 + 1e-4)


def test_with_lock_and_known_source_the_own_domain_is_exact(locked, scan):
    done = locked.harmonize(scan, BRIGHT, BRIGHT)
    assert np.array_equal(done.volume.voxels, scan.native.voxels)


def test_all_images_are_all_results_and_not_one(model, statistics, scan):
    several = QUICK.model_copy(update={"select": "all", "num_images_per_prompt": 2})
    method = ImageToImageHarmonizer(model, GRID, statistics, several)
    first, second = method.harmonize_all(scan, None, DARK)
    assert not np.array_equal(first.volume.voxels, second.volume.voxels)
    with pytest.raises(MrharmonyError, match="mean or best-ssim"):
        method.harmonize(scan, None, DARK)


@pytest.mark.parametrize("kind", ["raw", "locked"])
def test_a_model_of_volume_corrected_brains_sees_the_grown_head_and_gives_it_back_in_place(
    kind: str, scan, request
):
    method = replace(request.getfixturevalue(kind), volume_corrected=True)
    method = replace(method, settings=QUICK.model_copy(update={"strength": 0.0}))
    small = replace(scan, size=0.75)
    seen = [replace(method, model=Watching(method.model)) for _ in range(2)]
    for one, size in zip(seen, (0.75, 1.0), strict=True):
        done = one.harmonize(replace(scan, size=size), None, DARK)
        assert not done.volume.voxels[~scan.brain_mask].any()
    grown, plain = (int((one.model.slices > 0).sum()) for one in seen)
    assert grown == pytest.approx(plain / 0.75**3, rel=0.1)
    as_a_large_head = replace(method, volume_corrected=False).harmonize(small.grown(), None, DARK)
    here = method.harmonize(small, None, DARK)
    assert np.array_equal(here.volume.voxels, as_a_large_head.volume.voxels)
    assert np.array_equal(here.volume.affine, scan.native.affine)


class Watching:
    """A model that keeps the slices that it was shown."""

    def __init__(self, model) -> None:
        self.model, self.shown = model, []

    def __getattr__(self, name: str):
        return getattr(self.model, name)

    def encode(self, slices):
        self.shown.append(slices)
        return self.model.encode(slices)

    @property
    def slices(self) -> torch.Tensor:
        return torch.cat(self.shown)


def test_an_unknown_target_is_told_with_the_known_ones(raw, scan):
    with pytest.raises(MrharmonyError, match="bright, dark"):
        raw.harmonize(scan, None, Domain("mars", "mars"))
