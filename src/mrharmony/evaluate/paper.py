"""The paper's Table 2, from any method: SSIM and MSE of pictures against their inputs, mean ± SD and best.

Ikegami, Nishimaki, Tobari and Iyatomi (Hosei University), "Evaluation of domain harmonization in Brain MR
Images using a latent diffusion model". There 100 images are generated and scored against the input image.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from mrharmony.core.findings import MrharmonyError
from mrharmony.core.markdown import markdown_table
from mrharmony.core.volume import BoolArray, FloatArray
from mrharmony.evaluate.paired import mean_squared_error
from mrharmony.space.intensity import WHITE

_PROBABILITIES = np.linspace(0.01, 0.99, 33)
_SMALLEST_SLICE = 7  # pixels of scikit-image's window


@dataclass(frozen=True)
class SliceScores:
    """SSIM and MSE over pictures; MSE in squared units of the picture range."""

    ssim: float  # mean
    ssim_sd: float
    ssim_best: float  # greatest
    mse: float  # mean
    mse_sd: float
    mse_best: float  # least
    images: int


class PaperRow(NamedTuple):
    """One line of the table: a method in one direction."""

    direction: str
    method: str
    to_input: SliceScores  # against the slices that were translated, as in the paper
    to_truth: SliceScores | None = None  # against the target scanner's own slices of the same heads
    tone: float | None = None  # `tone_distance` from the target


PAPER_TABLE_2 = {
    "ADNI2 to ADNI3": SliceScores(0.581, 0.046, 0.652, 0.038, 0.023, 0.023, 100),
    "ADNI3 to ADNI3": SliceScores(0.601, 0.054, 0.697, 0.031, 0.012, 0.018, 100),
}
"""What the paper reports (its Table 2), 100 images each."""


def slice_places(mask: BoolArray, count: int, seed: int) -> NDArray[np.int64]:
    """Return the indices of slices of a brain, drawn at random, in order.

    The mask's first axis is the sliced one. `count` different slices come from those that hold at least half
    as much brain as the fullest one; the same seed draws the same slices of every brain with the same mask.
    """
    filled = mask.sum(axis=(1, 2))
    usable = np.flatnonzero((filled > 0) & (filled >= 0.5 * filled.max()))
    if len(usable) < count:
        raise MrharmonyError(f"the brain has {len(usable)} usable slices, not {count}; ask for fewer")
    return np.sort(np.random.default_rng(seed).choice(usable, count, replace=False))


def as_picture(slices: FloatArray) -> FloatArray:
    """Return canonical intensities as pictures in 0..1: one fixed scale, 1.25 canonical units to 1, clipped.

    The paper says neither how pictures were scaled nor what lies around the brain; black is assumed.
    """
    return np.clip(slices / np.float32(WHITE), 0, 1).astype(np.float32)


def slice_scores(output: FloatArray, truth: FloatArray) -> SliceScores:
    """Return SSIM and MSE of pictures in 0..1, each over the whole picture.

    SSIM is that of Wang et al. (2004) in 2D, scikit-image's default window of 7×7 pixels, data range 1. Both
    arguments have shape (n, h, w), with at least 7 pixels along each edge.
    """
    small = output.ndim != 3 or not output.size or min(output.shape[1:]) < _SMALLEST_SLICE
    if small or output.shape != truth.shape:
        raise MrharmonyError(
            "slices are scored in pairs of one shape (n, h, w) from 7×7 pixels on, "
            f"not {output.shape} and {truth.shape}"
        )
    everywhere = np.ones(output.shape[1:], dtype=bool)
    pairs = list(zip(output, truth, strict=True))
    ssim = [float(structural_similarity(made, true, data_range=1.0)) for made, true in pairs]
    mse = [mean_squared_error(made, true, everywhere) for made, true in pairs]
    return SliceScores(
        float(np.mean(ssim)),
        float(np.std(ssim)),
        max(ssim),
        float(np.mean(mse)),
        float(np.std(mse)),
        min(mse),
        len(ssim),
    )


def image_scores(images: FloatArray, truth: FloatArray) -> SliceScores:
    """Return the scores of all images (images, n, h, w) together, each against its slice in (n, h, w)."""
    return slice_scores(images.reshape(-1, *truth.shape[1:]), np.tile(truth, (len(images), 1, 1)))


def tone_quantiles(pictures: FloatArray, masks: BoolArray) -> NDArray[np.float64]:
    """Return the quantiles of intensity in the brain, averaged over slices (Nyúl et al. 2000): (33,)."""
    pairs = zip(pictures, masks, strict=True)
    found = [np.quantile(picture[mask], _PROBABILITIES) for picture, mask in pairs]
    return np.asarray(np.mean(found, axis=0))


def tone_distance(images: FloatArray, masks: BoolArray, target: NDArray[np.float64]) -> float:
    """Return how far the tone of images is from a target's, in units of the picture range.

    Root mean square over images of the 2-Wasserstein distance W₂ between the intensities inside the brain and
    the target's quantiles. W₂² is the least MSE in the brain that a picture with the target's intensities can
    have.

    Parameters
    ----------
    images, masks
        Shape (images, n, h, w), and the brain in each slice, shape (n, h, w).
    target
        `tone_quantiles` of the target's slices at the same places, shape (n, 33).
    """
    squares = [
        np.mean((np.quantile(picture[mask], _PROBABILITIES) - tone) ** 2)
        for image in images
        for picture, mask, tone in zip(image, masks, target, strict=True)
    ]
    return float(np.sqrt(np.mean(squares)))


def paper_table(rows: Iterable[PaperRow]) -> str:
    """Return rows as a Markdown table in the layout of the paper's Table 2, its own rows last."""
    given = list(rows)
    reported = [PaperRow(name, "the paper, Table 2", scores) for name, scores in PAPER_TABLE_2.items()]
    true = any(row.to_truth for row in given)
    scored = ("SSIM, mean (± SD)", "SSIM, best", "MSE, mean (± SD)", "MSE, best")
    to_truth = ("SSIM to the truth", "MSE to the truth") if true else ()
    head = ("direction", "method", "images", *scored, *to_truth, "W₂ to the target's tone")
    return markdown_table(head, [_cells(row, true) for row in [*given, *reported]])


def _cells(row: PaperRow, true: bool) -> list[str]:
    scores = row.to_input
    cells = [
        row.direction,
        row.method,
        str(scores.images),
        f"{scores.ssim:.3f} (± {scores.ssim_sd:.3f})",
        f"{scores.ssim_best:.3f}",
        f"{scores.mse:.3f} (± {scores.mse_sd:.3f})",
        f"{scores.mse_best:.3f}",
    ]
    if true:
        cells += [f"{row.to_truth.ssim:.3f}", f"{row.to_truth.mse:.4f}"] if row.to_truth else ["–", "–"]
    return [*cells, "–" if row.tone is None else f"{row.tone:.3f}"]
