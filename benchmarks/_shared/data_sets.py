"""Small data sets of given scans."""

import json
from collections.abc import Mapping
from pathlib import Path

from mrharmony.scans.names import BIDS_VERSION, DESCRIPTION


def write_data_set(out: Path, scans: Mapping[str, Path]) -> Path:
    """Write a BIDS folder of one domain with links to scans, by subject; returns the folder."""
    for subject, scan in scans.items():
        link = out / f"sub-{subject}" / "anat" / f"sub-{subject}_T1w{''.join(scan.suffixes)}"
        link.parent.mkdir(parents=True)
        link.symlink_to(scan.resolve())
    rows = "".join(f"sub-{subject}\tsite\n" for subject in scans)
    (out / "participants.tsv").write_text(f"participant_id\tsite\n{rows}", "utf-8")
    (out / DESCRIPTION).write_text(json.dumps({"Name": "site", "BIDSVersion": BIDS_VERSION}), "utf-8")
    return out
