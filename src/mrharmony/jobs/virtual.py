"""`mrharmony simulate`: the anatomies of real people that virtual heads are based on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mrharmony.core.findings import MrharmonyError
from mrharmony.core.progress import track
from mrharmony.jobs.brains import prepare_brains, require_some
from mrharmony.jobs.data_sets import named_domains, open_plain_scans
from mrharmony.scans.bids import BidsIndex, BidsScan, shuffle_key
from mrharmony.simulate.anatomy import Anatomy
from mrharmony.simulate.segmentation import segment_brain
from mrharmony.space.grid import Grid

ZOOM = 2.0  # mm, of the anatomies


def anatomies_of_bids(
    bids_dir: Path, only: Sequence[str], cache: Path, prepared: Path | None = None
) -> tuple[list[Anatomy], dict[Path, str]]:
    """Prepare and segment each subject's first scan; prepared brains are kept in `cache`.

    Only the sites `only` of the column `site` are used, or all without that column if it names none.
    `prepared` is as in `prepare_brains`. Returns the anatomies, and the scans that could not be prepared or
    segmented with their reasons. Raises `MrharmonyError` if a site has no scan, or no scan could be used.
    """
    index = open_plain_scans(bids_dir, "site" if only else None)
    scans = [scan.path for scan in _first_scans(index, only)]
    brains, refused = prepare_brains(scans, Grid.working(ZOOM), cache, prepared=prepared)
    anatomies = []
    for scan in track([scan for scan in scans if scan in brains], "segmenting"):
        try:
            anatomies.append(segment_brain(brains[scan].volume, brains[scan].mask))
        except MrharmonyError as error:
            refused[scan] = str(error)
    require_some(anatomies, refused)
    return anatomies, refused | index.refused


def _first_scans(index: BidsIndex, only: Sequence[str]) -> list[BidsScan]:
    """Return one scan a subject, in a shuffled order that is always the same: folders are sorted by site."""
    chosen = named_domains(index, only)
    first: dict[str, BidsScan] = {}
    for scan in index.scans:
        if not only or scan.domain in chosen:
            first.setdefault(scan.subject, scan)
    if not first:
        raise MrharmonyError(f"{index.root}: no scan to take an anatomy of. Name another data set.")
    return sorted(first.values(), key=lambda scan: shuffle_key(scan.subject))
