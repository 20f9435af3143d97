"""Opening a data set for a command: what is odd about it is told before work begins."""

from __future__ import annotations

import sys
from pathlib import Path

from mrharmony.scans import BidsIndex


def open_data_set(root: Path, domain_column: str) -> BidsIndex:
    """Index a BIDS folder and tell its findings on standard error.

    Parameters
    ----------
    root, domain_column
        As of `BidsIndex.open`.

    Raises
    ------
    MrharmonyError
        As `BidsIndex.open`.
    """
    index = BidsIndex.open(root, domain_column)
    for finding in index.findings:
        print(f"{root}: {finding.message} {finding.fix}", file=sys.stderr)
    return index
