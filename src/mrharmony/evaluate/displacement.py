"""How far an image has moved between two scans, block by block.

Least squares on the brightness constancy with changing gain and offset: Lucas and Kanade (1981), Proc. IJCAI,
674; Periaswamy and Farid (2003), IEEE TMI 22:865, equation 5, without their smoothness term.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from mrharmony.volume import BoolArray, FloatArray

_BLOCK = 8  # voxels along each edge
_BLUR = 1.0  # voxels; the linearisation holds for shifts of about a voxel
_RIDGE = 1e-6  # keeps blocks without any edge solvable; they then have not moved


def block_displacements(
    before: FloatArray, after: FloatArray, inner: BoolArray, zooms: tuple[float, float, float]
) -> tuple[float, float]:
    """Return median and 95th percentile over blocks of |d| in after(x) = (1 + g) before(x - d) + o.

    Parameters
    ----------
    before, after
        Intensities in the same contrast, shape (i, j, k).
    inner
        Voxels that count; blocks with less than one half of them are left out, unless all are.
    zooms
        Voxel edges in mm.

    Returns
    -------
    median, greatest
        In mm; trustworthy up to about 1.5 voxels, beyond that only "large".
    """
    first, second = (gaussian_filter(image, _BLUR).astype(np.float64) for image in (before, after))
    middle = (first + second) / 2
    design = _blocks(np.stack([*np.gradient(middle), middle, np.ones_like(middle)]) * inner)
    change = _blocks(((first - second) * inner)[None])[0]
    share = _blocks(inner[None].astype(np.float64))[0].mean(axis=1)
    used = share >= min(0.5, float(share.max()))
    normal = np.einsum("ubv,wbv->buw", design[:, used], design[:, used]) + _RIDGE * np.eye(5)
    pull = np.einsum("ubv,bv->bu", design[:, used], change[used])
    moves = np.linalg.solve(normal, pull[..., None])[:, :3, 0] * zooms
    median, greatest = np.percentile(np.linalg.norm(moves, axis=1), (50, 95))
    return float(median), float(greatest)


def _blocks(maps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cut maps of shape (c, i, j, k) into blocks, shape (c, blocks, voxels), padded with 0 at the ends."""
    padded = np.pad(maps, [(0, 0), *[(0, -size % _BLOCK) for size in maps.shape[1:]]])
    i, j, k = (size // _BLOCK for size in padded.shape[1:])
    cut = padded.reshape(len(maps), i, _BLOCK, j, _BLOCK, k, _BLOCK).transpose(0, 1, 3, 5, 2, 4, 6)
    return cut.reshape(len(maps), i * j * k, _BLOCK**3)
