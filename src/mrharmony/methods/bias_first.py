"""N4 and then histogram matching: what many labs do before they pool scans.

Preparation already corrects the receive field. Here N4 runs on the corrected scan, where it takes what is
left of the field, and the quantiles are matched after it; training scans go the same way.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mrharmony.core.domain import Domain
from mrharmony.core.volume import FloatArray
from mrharmony.domains.fitted import Brains, Fitted, masked, require_brains
from mrharmony.domains.statistics import DomainStatistics, brain_statistics
from mrharmony.methods.rendering import render
from mrharmony.methods.tone_curves import global_curve
from mrharmony.prepare.canonical import CanonicalBrain, brain_on_grid
from mrharmony.prepare.prepared import PreparedScan
from mrharmony.prepare.receive_field import n4_bias_field


@dataclass(frozen=True)
class BiasFirstRule:
    """The scan without its residual bias field, its quantiles matched to the target's.

    Of `fitted`, `quantiles` has those of the corrected training scans at `LANDMARKS`, a row a domain.
    """

    fitted: Fitted

    def intensities(self, scan: PreparedScan, source: Domain | None, target: Domain) -> FloatArray:
        """As `Harmonizer.intensities`; the source makes no difference."""
        del source
        quantiles = np.asarray(self.fitted.arrays["quantiles"][self.fitted.row(target)])
        corrected, before = scan.once(_correct)
        return render(corrected, global_curve(before, replace(before, quantiles=quantiles)))


def fit_after_bias(domains: Brains) -> Fitted:
    """Return the mean quantiles of each domain's training scans after another N4."""
    require_brains(domains)
    quantiles = [
        np.mean([brain_statistics(_corrected(brain)).quantiles for brain in brains], axis=0)
        for brains in domains.values()
    ]
    return Fitted(tuple(domains), {"quantiles": np.array(quantiles)})


def _corrected(brain: CanonicalBrain) -> CanonicalBrain:
    masked(brain)  # refuses what N4 would choke on
    field = n4_bias_field(brain.volume, brain.mask)
    return brain._replace(volume=brain.volume.with_voxels(brain.volume.voxels / field))


def _correct(scan: PreparedScan) -> tuple[PreparedScan, DomainStatistics]:
    """Return the scan with the residual bias added to its bias field, and its statistics then."""
    residual = n4_bias_field(scan.native.with_voxels(scan.intensities()), scan.brain_mask)
    corrected = replace(scan, bias_field=scan.bias_field * residual)
    return corrected, brain_statistics(brain_on_grid(corrected))
