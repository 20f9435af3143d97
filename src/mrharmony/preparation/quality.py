"""How plausible a brain mask and a preparation are: figures, and the limits that warn or refuse by them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Literal, NamedTuple

import numpy as np
from nibabel.affines import apply_affine, from_matvec
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, distance_transform_edt, gaussian_filter, label, minimum_filter
from scipy.spatial.transform import Rotation

from mrharmony.core.findings import Finding, MrharmonyError, warning
from mrharmony.core.volume import BoolArray, FloatArray, Matrix, Volume, bounding_box, cropped
from mrharmony.preparation.alignment import Alignment, inside_correlation, overturned_correlation
from mrharmony.preparation.prepared import PreparedScan
from mrharmony.space.grid import CANONICAL_GRID, Grid
from mrharmony.space.resampling import resample_brain
from mrharmony.space.template import template, template_brain_mask

_GRID = Grid.working(4.0)  # compares shapes, not folds
_RIM = 3.0  # mm, standard deviation of the neighbourhood in which both sides of the border are compared
_RIM_REACH = 9.0  # mm of the head around the brain that are compared with it
_AROUND = (1.0, 4.0)  # mm from a mask: what surrounds the brain, beside its border's partial volume
_SHELL_STEP = 2.0  # mm, coarse enough to be quick and fine enough for such a shell
_FAT = 1.05  # of the brain's brightest percentile: fat and marrow are brighter
_NOISE_SMOOTH = 1.5  # mm, standard deviation
_BRIGHTEST = 1.2  # of the brain's median, that a voxel counts
_GAP = 2.0  # mm, within which a dark gap shows
_PATCH_SMOOTH = 5.0  # mm, standard deviation of the neighbourhood whose mean counts
_BRIGHT_AS_BRAIN = 0.65  # of the brain's median, that such a mean has beyond a cut
_SURELY_WHITE, _SURELY_GREY = 0.8, 0.6  # probability in the template's maps, at 4 mm
# Measured: 68 brains of five scanners 0.949 to 0.989; virtual old people's MP2RAGE images, whose fluid is as
# black as air, from 0.895; ellipsoids 0.92 to 0.93; half heads and brains upside down up to 0.877.
_LOWEST_SIMILARITY = 0.885
_LOWEST_WHITE_TO_GREY = 1.0
# Measured (benchmarks.robustness.odd_heads, on heads that these limits were chosen on): sound T1w heads have
# 0.64 to 0.83 inside; FLAIR images 0.39 to 0.63, their white matter hardly brighter than grey; even brains,
# random ones and balls up to 0.48; overturned heads 0.13 to 0.55, and more when they are turned back.
_LOWEST_INSIDE = 0.52
_USUAL_INSIDE = 0.66
_LEAST_OVERTURNED = 0.5
_FARTHEST_TURNED = 60.0  # degrees; no head lies so in a scanner, and exchanged axes turn one by 90
_LEAST_WHITE_OF_UNUSUAL = 1.15  # of grey matter, where `inside` is not usual; T1w heads have 1.18 or more
# Measured (benchmarks.calibration.mask_faults): 73 sound masks have a `darkness_around` of 0.47 to 1, those
# that are 4 mm too small 0.18 to 0.42; a `closed_surface` of 1.00, and most that lack a part 0.90 to 0.99.
_MASK_IS_WHOLE = ", and that the mask covers the whole brain"
USUAL_DICE = 0.90  # with the template's brain


class _Usual(NamedTuple):
    """A figure of `MaskQuality` that warns where it is low."""

    figure: str
    least: float
    code: str  # of the warning
    name: str  # what the figure is


# Similarity, overlaps, border and pieces: set by judgement on the first 55 variants of
# benchmarks.robustness.preparation; the others as measured above.
_USUAL = (
    _Usual("similarity", 0.94, "unlike-template", "correlation of the brain with the template"),
    _Usual("template_dice", USUAL_DICE, "unlike-template-shape", "overlap with the template's brain"),
    _Usual(
        "inside", _USUAL_INSIDE, "unlike-template-inside", "correlation with the template inside the brain"
    ),
    _Usual("symmetry", 0.93, "lopsided-mask", "overlap of the mask with its mirror image"),
    _Usual("border_contrast", 0.75, "unclear-border", "share of the border that is brighter inside"),
    _Usual(
        "darkness_around",
        0.42,
        "mask-too-small",
        "darkness around the mask, as a share of the brain's brightness",
    ),
    _Usual(
        "closed_surface",
        0.99,
        "mask-lacks-part",
        "share of the mask's surface without a patch of brain beyond it",
    ),
    _Usual("one_piece", 0.98, "scattered-mask", "share of the mask in one piece"),
)


class _Surroundings(NamedTuple):
    """A brain and what is around it, on a grid coarse enough to be quick."""

    voxels: FloatArray  # as multiples of the brain's median
    shell: BoolArray  # `_AROUND` the mask
    edges: NDArray[np.float64]  # mm, of a voxel
    brightest: float  # the 99th percentile of the brain


@dataclass(frozen=True)
class MaskQuality:
    """Figures of a brain mask.

    Parameters
    ----------
    one_piece
        Share of the mask in its largest piece, voxels joined by their faces; 1 is one piece.
    symmetry
        Overlap of the aligned mask with its mirror image, Dice, on a 4 mm grid.
    border_contrast
        Share of the mask's border at which the brain is brighter than what lies outside, both averaged with a
        Gaussian of 3 mm. The rim of a T1w brain is grey matter, then dark fluid and skull.
    darkness_around
        How much less the median intensity 1 to 4 mm around the mask is than that inside, as a share of the
        latter: 1 is black. A mask that is too small has brain around it.
    closed_surface
        Share of what lies 1 to 4 mm around the mask that is left without its largest patch as bright as the
        brain. A mask that lacks a lobe has brain beyond the cut.
    template_dice
        Overlap of the mask with the template's, Dice; the brain grown to the template's volume, on a 4 mm
        grid.
    similarity
        That of the alignment.
    white_to_grey
        Median intensity where the template has white matter, as a multiple of that where it has grey matter:
        above 1 in T1w contrast.
    inside
        Correlation with the template inside both brains, where no outline counts; in T1w contrast near 0.8.
    overturned
        The highest such correlation of the brain turned over by 180°; None where `inside` is usual.
    turned
        How far the alignment turned the head, degrees.
    """

    one_piece: float
    symmetry: float
    border_contrast: float
    darkness_around: float
    closed_surface: float
    template_dice: float
    similarity: float
    white_to_grey: float
    inside: float
    overturned: float | None
    turned: float


def mask_quality(volume: Volume, brain_mask: BoolArray, alignment: Alignment) -> MaskQuality:
    """Return the figures of the brain of a bias-corrected scan, shape (i, j, k), and of its alignment."""
    brain, mask = _brain_on_template(volume, brain_mask, alignment.rigid_to_template)
    white, grey = (float(np.median(brain[mask & tissue])) for tissue in _tissues())
    inside = inside_correlation(volume, brain_mask, alignment)
    darkness_around, closed_surface = figures_around(volume, brain_mask)
    return MaskQuality(
        one_piece=_one_piece(brain_mask),
        symmetry=dice(mask, mask[::-1]),
        border_contrast=_border_contrast(volume, brain_mask),
        darkness_around=darkness_around,
        closed_surface=closed_surface,
        template_dice=_template_dice(mask),
        similarity=alignment.similarity,
        white_to_grey=white / grey if grey > 0 else 0.0,
        inside=inside,
        overturned=overturned_correlation(volume, brain_mask, alignment) if inside < _USUAL_INSIDE else None,
        turned=_turned(alignment.rigid_to_template),
    )


def millilitres(volume: Volume, brain_mask: BoolArray) -> float:
    """Return the volume of a mask on a volume's grid, ml."""
    return float(brain_mask.sum() * volume.voxel_mm3 / 1000)


def dice(one: BoolArray, other: BoolArray) -> float:
    """Return the overlap of two masks, 2 |A ∩ B| / (|A| + |B|); 0 where both are empty."""
    return float(2 * (one & other).sum() / max(one.sum() + other.sum(), 1))


def _one_piece(brain_mask: BoolArray) -> float:
    pieces, _ = label(cropped(brain_mask, bounding_box(brain_mask)))
    sizes = np.bincount(pieces.ravel())[1:]
    return float(sizes.max() / sizes.sum())


def _border_contrast(volume: Volume, brain_mask: BoolArray) -> float:
    sigma = _RIM / np.array(volume.zooms)
    box = _box_around(volume, brain_mask, _RIM_REACH)
    mask, voxels = brain_mask[box], volume.voxels[box]
    border = mask & ~binary_erosion(mask, border_value=1)  # a face of the field of view is no border

    def mean_where(side: BoolArray) -> FloatArray:
        weight = gaussian_filter(side.astype(np.float32), sigma)
        total = gaussian_filter(np.where(side, voxels, 0), sigma)
        means: FloatArray = total[border] / np.maximum(weight[border], np.finfo(np.float32).tiny)
        return means

    return float((mean_where(mask) > mean_where(~mask)).mean()) if border.any() else 0.0


def figures_around(volume: Volume, brain_mask: BoolArray) -> tuple[float, float]:
    """Return `darkness_around` and `closed_surface` of a `MaskQuality`, which need no alignment."""
    around = _surroundings(volume, brain_mask)
    return _darkness_around(around), _closed_surface(around)


def _surroundings(volume: Volume, brain_mask: BoolArray) -> _Surroundings:
    steps = [max(1, round(_SHELL_STEP / zoom)) for zoom in volume.zooms]
    box = _box_around(volume, brain_mask, _AROUND[1])
    coarse = tuple(slice(None, None, step) for step in steps)
    mask, voxels = brain_mask[box][coarse], volume.voxels[box][coarse]
    edges = np.array(volume.zooms) * steps
    away = distance_transform_edt(~mask, sampling=edges)
    shell = (away > _AROUND[0]) & (away <= max(_AROUND[1], edges.min()))
    median, brightest = np.percentile(voxels[mask], (50, 99)) if mask.any() else (0.0, 0.0)
    if median <= 0:
        return _Surroundings(np.ones_like(voxels), shell, edges, 1.0)
    return _Surroundings(voxels / np.float32(median), shell, edges, float(brightest / median))


def _darkness_around(around: _Surroundings) -> float:
    return 1 - float(np.median(around.voxels[around.shell])) if around.shell.any() else 1.0


def _closed_surface(around: _Surroundings) -> float:
    like_brain = np.where(around.voxels > _FAT * around.brightest, 0, around.voxels)  # fat and marrow are not
    smooth = np.minimum(gaussian_filter(like_brain, _NOISE_SMOOTH / around.edges), _BRIGHTEST)
    # Dark fluid and bone part the brain from what is bright outside, and nothing does across a cut.
    lowest = minimum_filter(smooth, 1 + 2 * np.rint(_GAP / around.edges).astype(int))
    weight = gaussian_filter(around.shell.astype(np.float32), _PATCH_SMOOTH / around.edges)
    total = gaussian_filter(np.where(around.shell, lowest, 0), _PATCH_SMOOTH / around.edges)
    patches, _ = label(around.shell & (total > _BRIGHT_AS_BRAIN * weight), structure=np.ones((3, 3, 3)))
    largest = np.bincount(patches.ravel())[1:].max(initial=0)
    return float(1 - largest / max(np.count_nonzero(around.shell), 1))


def _box_around(volume: Volume, brain_mask: BoolArray, reach_mm: float) -> tuple[slice, ...]:
    reach = np.ceil(reach_mm / np.array(volume.zooms)).astype(int)
    tight = bounding_box(brain_mask)
    return tuple(slice(max(s.start - r, 0), s.stop + r) for s, r in zip(tight, reach, strict=True))


def _brain_on_template(
    volume: Volume, brain_mask: BoolArray, rigid_to_template: Matrix
) -> tuple[FloatArray, BoolArray]:
    """Return an aligned brain and its mask on a 4 mm grid, grown to the template's volume."""
    growth = (millilitres(template(), template_brain_mask()) / millilitres(volume, brain_mask)) ** (1 / 3)
    centre = apply_affine(_GRID.affine, np.argwhere(_template_mask()).mean(axis=0))
    grown = from_matvec(np.eye(3) * growth, centre * (1 - growth)) @ rigid_to_template
    return resample_brain(Volume(volume.voxels, grown @ volume.affine), brain_mask, _GRID.shape, _GRID.affine)


def _template_dice(mask: BoolArray) -> float:
    """Return the overlap of a mask on the 4 mm grid with the template's."""
    return dice(mask, _template_mask())


@cache
def _template_mask() -> BoolArray:
    """Return the template's mask on the 4 mm grid."""
    return resample_brain(template(), template_brain_mask(), _GRID.shape, _GRID.affine)[1]


@cache
def _tissues() -> tuple[BoolArray, BoolArray]:
    """Return where the template is white and where it is grey matter."""
    white, grey = (
        resample_brain(template(which), template_brain_mask(), _GRID.shape, _GRID.affine)[0]
        for which in ("wm", "gm")
    )
    return white > _SURELY_WHITE, grey > _SURELY_GREY


def quality_findings(quality: MaskQuality, *, given: bool = False) -> tuple[Finding, ...]:
    """Return warnings for a mask, found or `given`, whose figures are unusual for a brain.

    Raises `MrharmonyError` where what was found is no brain, is overturned, or is not in T1w contrast.
    """
    _refuse_overturned(quality)
    _refuse_what_is_no_brain(quality, given=given)
    _refuse_other_contrasts(quality, given=given)
    return (*_unusual_figures(quality), *_turned_head(quality))


def _refuse_overturned(quality: MaskQuality) -> None:
    if quality.overturned and quality.overturned > max(quality.inside, _LEAST_OVERTURNED):
        raise MrharmonyError(
            "the brain lies upside down or back to front "
            f"(correlation {quality.overturned:.2f} with the template turned over, {quality.inside:.2f} as "
            "it lies): give a copy with the right orientation in its header."
        )


def _refuse_what_is_no_brain(quality: MaskQuality, *, given: bool) -> None:
    if quality.similarity < _LOWEST_SIMILARITY:
        what = "what the brain mask that was given holds" if given else "what was found"
        raise MrharmonyError(
            f"{what} is unlike a brain (correlation {quality.similarity:.2f} with the template): "
            "check that the scan is a T1w image of a whole head the right way up"
            f"{_MASK_IS_WHOLE if given else ', or give a brain mask'}."
        )


def _refuse_other_contrasts(quality: MaskQuality, *, given: bool) -> None:
    whole = _MASK_IS_WHOLE if given else ""
    if quality.white_to_grey < _LOWEST_WHITE_TO_GREY:
        raise MrharmonyError(
            f"white matter is darker than grey matter ({quality.white_to_grey:.2f} of it): "
            f"check that the scan is a T1w image and not another contrast, inverted or upside down{whole}."
        )
    unusual = quality.inside < _USUAL_INSIDE and quality.white_to_grey < _LEAST_WHITE_OF_UNUSUAL
    if unusual or quality.inside < _LOWEST_INSIDE:
        raise MrharmonyError(
            f"the brain's inside is unlike a T1w image (correlation {quality.inside:.2f} with the template, "
            f"usual: at least {_USUAL_INSIDE}; white matter {quality.white_to_grey:.2f} of grey): "
            f"check that the scan is T1w, and no FLAIR, other contrast or phantom{whole}."
        )


def _unusual_figures(quality: MaskQuality) -> Iterator[Finding]:
    for usual in _USUAL:
        value = getattr(quality, usual.figure)
        if value < usual.least:
            yield warning(
                usual.code,
                f"the {usual.name} is {_rounded_down(value):.2f} only (usual: at least {usual.least:.2f}).",
                "Look at the brain mask and at the canonical brain.",
            )


def _turned_head(quality: MaskQuality) -> Iterator[Finding]:
    if quality.turned > _FARTHEST_TURNED:
        yield warning(
            "head-turned",
            f"by its header the head is turned by {quality.turned:.0f}° from how heads lie (usual: at most "
            f"{_FARTHEST_TURNED:.0f}°), as where two axes are exchanged.",
            "Look at the scan in a viewer; if the labels of its sides are wrong, convert it anew.",
        )


def _rounded_down(value: float) -> float:
    """Return a figure in hundredths, so that it reads as less than a limit that it is less than."""
    return math.floor(100 * value) / 100


@dataclass(frozen=True)
class GateFigure:
    """A figure of a prepared scan with the least value that lets it pass, and what a lower one brings."""

    name: str
    value: float
    least: float
    below: Literal["warns", "refuses"]

    @property
    def is_usual(self) -> bool:
        """Whether the figure keeps its limit."""
        return self.value >= self.least


def gate_figures(prepared: PreparedScan) -> tuple[GateFigure, ...]:
    """Return the figures of a prepared scan, measured anew, each with the least value that passes.

    What else `quality_findings` judges is left out: the alignment's own similarity, which is known only while
    a scan is aligned; an `inside` that is so low that it refuses, alone or where white matter is hardly
    brighter than grey; the brain turned over; and how far the head is turned.
    """
    corrected = prepared.native.with_voxels(prepared.intensities())
    unknown = Alignment(prepared.rigid_to_template, prepared.size, similarity=float("nan"))
    quality = mask_quality(corrected, prepared.brain_mask, unknown)
    usual = tuple(
        GateFigure(gate.name, value, gate.least, "warns")
        for gate in _USUAL
        if not np.isnan(value := getattr(quality, gate.figure))
    )
    contrast = "white matter's median as a multiple of grey matter's"
    return (*usual, GateFigure(contrast, quality.white_to_grey, _LOWEST_WHITE_TO_GREY, "refuses"))


@dataclass(frozen=True)
class PreparationFigures:
    """How a prepared scan compares with the template, and how the head lay in the scanner."""

    brain_ml: float  # volume of the brain mask
    template_dice: float  # that of `MaskQuality`, which warns below `USUAL_DICE`
    rotation_degrees: float  # how the head was turned
    shift_mm: float  # how far the template's centre lay from its place
    size: float  # edge of the head as a multiple of the template's
    scale: float  # the bias-corrected intensity that is 1 in canonical units


def preparation_figures(prepared: PreparedScan) -> PreparationFigures:
    """Return the figures of a prepared scan."""
    _, mask = _brain_on_template(prepared.native, prepared.brain_mask, prepared.rigid_to_template)
    return PreparationFigures(
        brain_ml=millilitres(prepared.native, prepared.brain_mask),
        template_dice=_template_dice(mask),
        rotation_degrees=_turned(prepared.rigid_to_template),
        shift_mm=_shift(prepared.rigid_to_template),
        size=prepared.size,
        scale=prepared.scale,
    )


def _turned(rigid_to_template: Matrix) -> float:
    """Return by how many degrees a head is turned."""
    return float(np.degrees(Rotation.from_matrix(rigid_to_template[:3, :3]).magnitude()))


def _shift(rigid_to_template: Matrix) -> float:
    """Return how far the head lies from its place at the centre of the field of view, which no turn moves."""
    centre = CANONICAL_GRID.affine @ [*(np.array(CANONICAL_GRID.shape) - 1) / 2, 1]
    return float(np.linalg.norm((np.linalg.inv(rigid_to_template) @ centre - centre)[:3]))
