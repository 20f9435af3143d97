"""Draw a real brain before and after: `python docs/figures/real_head.py SCAN --to spgr-1.5t`.

The target is one of the simulated scanners, whose look a virtual head shows. The committed figure is of
sub-nsk05 (OpenNeuro ds002748, CC0, skull-stripped).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from draw import GREYS, _axial, _row, _save

import mrharmony
from mrharmony.methods.diffusion import load_diffusion
from mrharmony.preparation.canonical import canonical_brain
from mrharmony.weights import shipped_model

CHANGE = {"cmap": "berlin", "vmin": -0.3, "vmax": 0.3, "interpolation": "bilinear"}


def main() -> None:
    """Prepare brain and virtual head, harmonize the brain, and draw a slice of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scan", type=Path)
    parser.add_argument("--to", required=True)
    asked = parser.parse_args()
    scan, other = (mrharmony.prepare(one) for one in (asked.scan, mrharmony.virtual_scan(asked.to, zoom=1.0)))
    target = mrharmony.Harmonizer.from_pretrained().card_.domain(asked.to)
    transform = load_diffusion(shipped_model()).transform(scan, None, target)
    brain, example = canonical_brain(scan), canonical_brain(other)
    before = brain.volume.voxels
    after = np.zeros_like(before)
    after[brain.mask] = transform.apply(brain.positions(), np.maximum(before[brain.mask], 0))
    place = _axial(brain.mask)
    pictures = {
        "real scan": ((before, place), GREYS),
        f"harmonized to {asked.to}": ((after, place), GREYS),
        "virtual head on that scanner": ((example.volume.voxels, _axial(example.mask)), GREYS),
        "what was changed": ((after - before, place), CHANGE),
    }
    _save("real-head", _row(pictures, columns=4))


if __name__ == "__main__":
    main()
