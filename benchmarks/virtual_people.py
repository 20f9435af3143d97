"""Virtual people on the anatomies of real ones with their prepared scans, where the truth is known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mrharmony.core.volume import FloatArray
from mrharmony.evaluate.paired import peak_ratio
from mrharmony.jobs.brains import prepare_brains
from mrharmony.prepare.pipeline import prepare_scan
from mrharmony.prepare.prepared import PreparedScan
from mrharmony.scans.bids import BidsIndex
from mrharmony.scans.participants import shuffle_key
from mrharmony.simulate.anatomy import Anatomy
from mrharmony.simulate.heads import virtual_head
from mrharmony.simulate.person import Population, draw_people
from mrharmony.simulate.scanner import Scanner
from mrharmony.simulate.scanning import scan_head
from mrharmony.simulate.segmentation import segment_brain
from mrharmony.space.grid import Grid

GRID = Grid.working(2.0)


def people(bids_dir: Path, domain: str, places: Sequence[int], cache: Path, seed: int) -> list[Anatomy]:
    """Return virtual people, each on the anatomy of another real one.

    Parameters
    ----------
    bids_dir, domain
        The data set, and the site whose scans are segmented.
    places
        Which subjects, in the order in which `simulate --anatomy` takes them: of 40, the first 24 are for
        training subjects, the others for test subjects.
    cache
        Folder of prepared brains.
    seed
        Of who they are.
    """
    chosen = chosen_scans(bids_dir, domain, places)
    brains, _ = prepare_brains(chosen, GRID, cache)
    drawn = draw_people(np.random.default_rng(seed), Population(age=(20, 85), patients=0.25), len(chosen))
    return [
        virtual_head(
            np.random.default_rng([seed, number]),
            GRID,
            segment_brain(brains[path].volume, brains[path].mask),
            ventricle_scale=person.ventricle_scale,
            cortical_thinning=person.cortical_thinning,
            lesions_ml=person.lesions_ml,
        )
        for number, (path, person) in enumerate(zip(chosen, drawn, strict=True))
    ]


def chosen_scans(bids_dir: Path, domain: str, places: Sequence[int]) -> list[Path]:
    """Return the real scans whose anatomies `people` takes."""
    scans = scans_in_turn(bids_dir, domain)
    return [scans[place] for place in places]


def scans_in_turn(bids_dir: Path, domain: str) -> list[Path]:
    """Return a site's scans in the order in which `simulate --anatomy` takes their subjects."""
    scans = [scan for scan in BidsIndex.open(bids_dir, "site").scans if scan.domain == domain]
    return [scan.path for scan in sorted(scans, key=lambda scan: shuffle_key(scan.subject))]


def seen(head: Anatomy, scanner: Scanner, seed: Sequence[int]) -> PreparedScan:
    """Return a head as a scanner sees it, prepared; `seed` is that of the head's scans."""
    rng = np.random.default_rng([*seed, *scanner.name.encode()])
    return prepare_scan(scan_head(head, scanner, rng), brain_mask=head.brain_mask)


def ratio(made: FloatArray, truth: FloatArray) -> float:
    """Return the PSNR, dB."""
    return peak_ratio(float(np.mean((made.astype(np.float64) - truth) ** 2)))
