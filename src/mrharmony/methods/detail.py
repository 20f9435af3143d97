"""Detail transfer: after the lock, a scan gets the sharpness and the noise of its target, within bounds.

The lock is a curve of intensities and can change neither. Detail within the spread of the target's own scans
stays as it is, gains are bounded, and a filter that would make the verdict worse is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from mrharmony.core.domain import Domain
from mrharmony.core.findings import Finding, MrharmonyError
from mrharmony.core.progress import track
from mrharmony.core.tensors import LARGEST, open_tensors
from mrharmony.domains.fitted import Brains, Fitted, Names, require_brains, save_fitted
from mrharmony.domains.statistics import DomainStatistics
from mrharmony.evidence.drift import Evidence, scan_evidence
from mrharmony.evidence.verdict import Verdict
from mrharmony.methods.detail_filter import BINS, filter_brain, log_spectrum
from mrharmony.methods.protocol import HarmonizedVolume
from mrharmony.preparation.canonical import at_working_zoom, brain_on_grid
from mrharmony.preparation.prepared import PreparedScan

DETAIL = "detail.safetensors"
GAINS = (0.4, 1.5)  # bounds of the filter's gain
SPREADS = 2.0  # standard deviations of the target's scans within which a scan is left alone
_USUAL_SPREAD = 0.2  # of the logarithm of the power; a prior where a domain has few scans
_USUAL_SCANS = 4  # how many scans that counts for
_VERDICTS: tuple[Verdict, ...] = get_args(Verdict)


@dataclass(frozen=True)
class Detail:
    """The detail of one domain's brains.

    Parameters
    ----------
    mean
        Of `log_spectrum` over the domain's scans, shape (6, 6, 6).
    spread
        Its standard deviation over the scans, drawn toward 0.2 where there are few; positive.
    scans
        How many.
    """

    mean: NDArray[np.float64]
    spread: NDArray[np.float64]
    scans: int

    def gains(self, spectrum: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the gains that bring a brain's `log_spectrum` to the domain's, shape (6, 6, 6).

        g = exp(d / 2), within `GAINS`, where d is mean - spectrum through the firm shrinkage of Gao and Bruce
        (1997, Statistica Sinica 7:855): 0 up to two `spread`, so that g is exactly 1; whole from four; linear
        between.
        """
        missing = self.mean - spectrum
        beyond = np.maximum(np.abs(missing) - SPREADS * self.spread, 0)
        firm = np.sign(missing) * np.minimum(np.abs(missing), 2 * beyond)
        return np.asarray(np.clip(np.exp(firm / 2), *GAINS))


def fit_details(domains: Brains) -> dict[str, Detail]:
    """Return the detail of domains over all of their scans.

    The scans lie on a template grid; other grids than that of 2 mm are resampled.
    """
    require_brains(domains)
    return {
        name: _detail([log_spectrum(at_working_zoom(brain)) for brain in brains])
        for name, brains in track(domains.items(), "taking detail", len(domains))
    }


def _detail(spectra: list[NDArray[np.float64]]) -> Detail:
    mean = np.mean(spectra, axis=0)
    squares = np.square(spectra - mean).sum(axis=0)
    known = len(spectra) - 1
    variance = (squares + _USUAL_SCANS * _USUAL_SPREAD**2) / (known + _USUAL_SCANS)
    return Detail(mean, np.sqrt(variance), len(spectra))


def save_details(directory: Path, details: Mapping[str, Detail], owner: Mapping[str, str]) -> None:
    """Write `detail.safetensors`, which says what it belongs to; nothing where there is no detail."""
    if not details:
        return
    arrays: dict[str, NDArray[Any]] = {
        "means": np.stack([detail.mean for detail in details.values()]).astype(np.float32),
        "spreads": np.stack([detail.spread for detail in details.values()]).astype(np.float32),
        "scans": np.array([detail.scans for detail in details.values()]),
    }
    save_fitted(directory / DETAIL, Fitted(tuple(details), arrays), owner)


def load_details(
    directory: Path, owner_of: Callable[[Collection[str]], Mapping[str, str]]
) -> dict[str, Detail]:
    """Return the details that `save_details` wrote; none where a model has no such file.

    Raises `MrharmonyError` where the file is damaged, or says that it belongs to something else than
    `owner_of` the names of its domains.
    """
    path = directory / DETAIL
    if not path.exists():
        return {}
    with open_tensors(path, "detail of domains", "fit the method again") as file:
        names = file.record("domains", Names)
        file.require_owner_if_said(owner_of, names)
        means, spreads = (
            np.asarray(file.tensor(name, (len(names), BINS, BINS, BINS), bounds), np.float64)
            for name, bounds in (("means", (-100.0, 100.0)), ("spreads", (1e-6, 100.0)))
        )
        scans = file.tensor("scans", (len(names),), (1, LARGEST), "i")
        rows = zip(names, means, spreads, scans, strict=True)
        return {name: Detail(mean, spread, int(scans)) for name, mean, spread, scans in rows}


def detail_of(details: Mapping[str, Detail], target: Domain) -> Detail:
    """Return a target domain's detail; raises `MrharmonyError` where there is none."""
    if target.name not in details:
        known = f"known is that of {', '.join(sorted(details))}" if details else "there is none at all"
        raise MrharmonyError(
            f"The model does not know the detail of {target.name} ({known}). Leave detail=True out, or "
            "fit the domain again: mrharmony train BIDS_DIR --method diffusion --output DIR."
        )
    return details[target.name]


def transfer_detail(
    scan: PreparedScan, locked: HarmonizedVolume, target: Detail, statistics: DomainStatistics
) -> HarmonizedVolume:
    """Return a harmonized scan with the target's detail, or as it is where the filter is left out.

    `locked` is the scan through the lock, 0 outside the brain; `target` and `statistics` are of the target
    domain. The evidence is on what is returned, the provenance has `detail`, and a finding says what was
    done. What the lock's verdict warned of stays a warning: a filter is no remedy.
    """
    # As a prepared scan: the lock's output is in the target's units, its bias is gone.
    canonical = replace(
        scan, native=locked.volume, bias_field=np.ones_like(scan.bias_field), scale=locked.scale
    )
    gains = target.gains(log_spectrum(brain_on_grid(canonical)))
    if (gains == 1).all():
        return _noted(locked, gains, "within the spread of the target's scans", None)
    if locked.evidence.verdict == "fail":
        return _noted(locked, gains, "the verdict is fail without it", None)
    to_template = scan.rigid_to_template @ scan.native.affine
    voxels = filter_brain(locked.volume.voxels, scan.brain_mask, to_template, gains)
    volume = locked.volume.with_voxels(voxels)
    evidence = scan_evidence(scan, volume, locked.scale, statistics)
    if _VERDICTS.index(evidence.verdict) > _VERDICTS.index(locked.evidence.verdict):
        return _noted(locked, gains, "the verdict would be worse", evidence)
    doubts = [reason for reason in locked.evidence.reasons if reason not in evidence.reasons]
    done = replace(locked, volume=volume, evidence=evidence.doubted(doubts))
    return _noted(done, gains, None, evidence)


def unchanged_detail(locked: HarmonizedVolume) -> HarmonizedVolume:
    """Return a scan that stays in its own domain, as it is, with the note that its detail was left alone."""
    return _noted(locked, np.ones((BINS,) * 3), "target is the scan's own domain", None)


def _noted(
    done: HarmonizedVolume, gains: NDArray[np.float64], kept: str | None, filtered: Evidence | None
) -> HarmonizedVolume:
    """Return the result with its record and its finding; `kept` says why the lock's output stays."""
    record: dict[str, Any] = {
        "transferred": kept is None,
        "reason": kept,
        "least_gain": float(gains.min()),
        "greatest_gain": float(gains.max()),
        "filtered_verdict": filtered.verdict if filtered else None,
        "filtered_reasons": list(filtered.reasons) if filtered else [],
    }
    return replace(
        done, provenance={**done.provenance, "detail": record}, findings=(*done.findings, _finding(record))
    )


def _finding(record: Mapping[str, Any]) -> Finding:
    span = f"gains {record['least_gain']:.2f} to {record['greatest_gain']:.2f}"
    if record["transferred"]:
        return Finding(
            "info",
            "detail-transferred",
            f"Sharpness and noise were filtered toward the target's ({span}).",
            "Leave detail transfer out where fine detail has to stay as it was scanned.",
        )
    if record["filtered_verdict"] is None:
        return Finding("info", "detail-kept", f"Detail was left alone: {record['reason']}.", "Nothing to do.")
    faults = ", ".join(record["filtered_reasons"])
    return Finding(
        "warning",
        "detail-dropped",
        f"The detail filter ({span}) was left out: with it the verdict would be "
        f"{record['filtered_verdict']} ({faults}).",
        "The scan is the lock's alone; nothing to do.",
    )
