"""The paper's Table 2, from any method: SSIM and MSE over slices, mean ± SD and best.

Ikegami, Nishimaki, Tobari and Iyatomi (Hosei University), "Evaluation of domain harmonization in Brain MR
Images using a latent diffusion model". There 100 images are generated and scored against the input images.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from skimage.metrics import structural_similarity

from mrharmony.evaluate.paired import mean_squared_error
from mrharmony.harmonize import CanonicalBrain
from mrharmony.volume import FloatArray, MrharmonyError

WHITE = 1.25  # canonical units that are shown as 1; brains end at about 1.1
_SMALLEST_SLICE = 7  # pixels of scikit-image's window


@dataclass(frozen=True)
class SliceScores:
    """SSIM and MSE over slices.

    Parameters
    ----------
    ssim, ssim_sd, ssim_best
        Mean, standard deviation and greatest.
    mse, mse_sd, mse_best
        Mean, standard deviation and least, in squared units of the image range.
    slices
        How many.
    """

    ssim: float
    ssim_sd: float
    ssim_best: float
    mse: float
    mse_sd: float
    mse_best: float
    slices: int


class SliceRow(NamedTuple):
    """One direction or method of the table: its name, and output and truth slices, shapes (n, h, w)."""

    name: str
    output: FloatArray
    truth: FloatArray


PAPER_TABLE_2 = {
    "ADNI2 to ADNI3": SliceScores(0.581, 0.046, 0.652, 0.038, 0.023, 0.023, 100),
    "ADNI3 to ADNI3": SliceScores(0.601, 0.054, 0.697, 0.031, 0.012, 0.018, 100),
}
"""What the paper reports (its Table 2), 100 images each."""


def coronal_slices(brain: CanonicalBrain, count: int, seed: int) -> FloatArray:
    """Return random coronal slices of a brain, scaled to 0..1.

    The paper says neither how images were scaled nor what lies around the brain. Assumed here: the whole
    image, black around the brain; one fixed scale, 1.25 canonical units to 1, clipped.

    Parameters
    ----------
    brain
        On a grid whose second axis points forward.
    count
        How many different slices, from those that hold at least half as much brain as the fullest one.
    seed
        The same seed picks the same slices of every brain with the same mask.

    Returns
    -------
    FloatArray
        Shape (count, i, k).

    Raises
    ------
    MrharmonyError
        If the brain has fewer such slices.
    """
    filled = brain.mask.sum(axis=(0, 2))
    usable = np.flatnonzero((filled > 0) & (filled >= 0.5 * filled.max()))
    if len(usable) < count:
        raise MrharmonyError(f"the brain has {len(usable)} usable coronal slices, not {count}; ask for fewer")
    chosen = np.sort(np.random.default_rng(seed).choice(usable, count, replace=False))
    images = np.where(brain.mask, brain.volume.voxels, 0)[:, chosen] / WHITE
    return np.moveaxis(np.clip(images, 0, 1), 1, 0).astype(np.float32)


def slice_scores(output: FloatArray, truth: FloatArray) -> SliceScores:
    """Return SSIM and MSE of slices in 0..1, each over the whole image.

    SSIM is that of Wang et al. (2004) in 2D, scikit-image's default window of 7×7 pixels, data range 1.

    Parameters
    ----------
    output, truth
        Shape (n, h, w), at least 7 pixels along each edge.

    Raises
    ------
    MrharmonyError
        If there is no slice, or the shapes differ.
    """
    if (
        output.shape != truth.shape
        or output.ndim != 3
        or not output.size
        or min(output.shape[1:]) < _SMALLEST_SLICE
    ):
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


def paper_table(rows: Iterable[SliceRow]) -> str:
    """Return the scores of rows as a Markdown table in the layout of Table 2, the paper's own rows last."""
    scored = [(row.name, slice_scores(row.output, row.truth)) for row in rows]
    reported = [(f"{name} (paper, Table 2)", scores) for name, scores in PAPER_TABLE_2.items()]
    return "\n".join([*_HEAD, *(_line(name, scores) for name, scores in scored + reported)]) + "\n"


_HEAD = (
    "| | slices | SSIM, mean (± SD) | SSIM, best | MSE, mean (± SD) | MSE, best |",
    "|---|---|---|---|---|---|",
)


def _line(name: str, scores: SliceScores) -> str:
    ssim = f"{scores.ssim:.3f} (± {scores.ssim_sd:.3f}) | {scores.ssim_best:.3f}"
    mse = f"{scores.mse:.3f} (± {scores.mse_sd:.3f}) | {scores.mse_best:.3f}"
    return f"| {name} | {scores.slices} | {ssim} | {mse} |"
