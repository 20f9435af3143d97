"""Draw a real brain before and after: `python docs/figures/real_head.py SCAN TARGET_SCAN --to DOMAIN`.

`TARGET_SCAN` is another person's, to show the look of the target. The committed figure is of sub-nsk05 (OpenNeuro
ds002748, CC0, skull-stripped) harmonized to LA, beside sub-la03 (OpenNeuro ds000011, PDDL).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from draw import CHANGE, GREYS, _axial, _row, _save

import mrharmony
from mrharmony.core.volume import FloatArray
from mrharmony.methods.diffusion import load_diffusion
from mrharmony.preparation.canonical import canonical_brain
from mrharmony.weights import shipped_model


def main() -> None:
    """Prepare both brains, harmonize the first, and draw a slice of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scan", type=Path)
    parser.add_argument("target_scan", type=Path)
    parser.add_argument("--to", required=True)
    asked = parser.parse_args()
    scan, other = (mrharmony.prepare(path) for path in (asked.scan, asked.target_scan))
    target = mrharmony.Harmonizer.from_pretrained().card_.domain(asked.to)
    transform = load_diffusion(shipped_model()).transform(scan, None, target)
    brain, example = canonical_brain(scan), canonical_brain(other)
    before = brain.volume.voxels
    after: FloatArray = np.zeros_like(before)
    after[brain.mask] = transform.apply(brain.positions(), np.maximum(before[brain.mask], 0))
    place = _axial(brain.mask)
    pictures = {
        "scan, prepared": ((before, place), GREYS),
        f"harmonized to {asked.to}": ((after, place), GREYS),
        f"another person at {asked.to}": ((example.volume.voxels, _axial(example.mask)), GREYS),
        "what was changed": ((after - before, place), CHANGE),
    }
    _save("real-head", _row(pictures, columns=4))


if __name__ == "__main__":
    main()
