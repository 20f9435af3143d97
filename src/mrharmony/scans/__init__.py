"""Scans in and out: reading with every check, atomic writing on the native grid, and BIDS folders."""

from mrharmony.scans.atomic import write_json
from mrharmony.scans.bids import BidsIndex, BidsScan
from mrharmony.scans.findings import finding_record
from mrharmony.scans.names import SCAN_SUFFIXES, find_scans, output_stem, scan_suffix
from mrharmony.scans.reading import check_scan, read_mask, read_scan
from mrharmony.scans.scan import Scan
from mrharmony.scans.writing import write_scan

__all__ = [
    "SCAN_SUFFIXES",
    "BidsIndex",
    "BidsScan",
    "Scan",
    "check_scan",
    "find_scans",
    "finding_record",
    "output_stem",
    "read_mask",
    "read_scan",
    "scan_suffix",
    "write_json",
    "write_scan",
]
