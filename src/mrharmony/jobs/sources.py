"""Which domains of a model the scans of a data set come from, and what is odd about that."""

from __future__ import annotations

from typing import NamedTuple

from mrharmony.core.domain import Domain
from mrharmony.core.findings import (
    Finding,
    MrharmonyError,
    info,
)
from mrharmony.core.wording import some_of
from mrharmony.jobs.harmonizing import (
    HarmonizeJob,
)
from mrharmony.methods.registry import DEFAULT_METHOD
from mrharmony.networks.card import ModelCard
from mrharmony.scans.bids import SESSION, SITE, BidsIndex, BidsScan
from mrharmony.scans.selection import Selection
from mrharmony.simulate.protocol import protocol_of_sidecar


class Sources(NamedTuple):
    """How the domain is found that a scan comes from; in doubt it is unknown.

    Parameters
    ----------
    card
        Of the model, which knows domains by their names.
    by_name
        A domain of the data set is the model's of the same name.
    by_protocol
        A scan of another domain comes from the protocol in its BIDS sidecars.
    """

    card: ModelCard
    by_name: bool = True
    by_protocol: bool = False

    def of(self, scan: BidsScan) -> tuple[Domain | None, tuple[Finding, ...]]:
        """Return the domain of a scan, and why its protocol does not tell it."""
        known = self.card.find(scan.domain) if scan.domain and self.by_name else None
        if known or not self.by_protocol:
            return known, ()
        try:
            return protocol_of_sidecar(scan.sidecar, f"sidecars of {scan.path.name}").domain, ()
        except MrharmonyError as error:
            return None, (info("no-source-protocol", str(error)),)


def strange_sites(index: BidsIndex, selection: Selection, job: HarmonizeJob, sources: Sources) -> str:
    """Return what is to be said of sites that the model does not know; empty where all is well.

    The default method recognises the source of each of their scans by itself. Two scans of one site may then
    be taken for those of two domains, which adds a difference within the site.
    """
    if job.harmonizer.name != DEFAULT_METHOD or not sources.by_name:
        return ""
    strange = sorted({s.domain for s in selection.of(index) if s.domain and not sources.of(s)[0]})
    if not strange:
        return ""
    return (
        f"{index.root}: the model does not know {some_of(strange)}. Where their scans come from is "
        "recognised scan by scan, and may differ within a site. `mrharmony adapt` teaches a model these "
        "sites in seconds a scan; take it with model='my-model'."
    )


def sessions_as_domains(index: BidsIndex, selection: Selection, sources: Sources) -> str:
    """Return what is to be said of sessions that are called like domains of the model; empty if none is."""
    if index.domain_column != SESSION or not sources.by_name:
        return ""
    known = {s.session for s in selection.of(index) if s.session and sources.card.find(s.session)}
    if not known:
        return ""
    sessions = some_of(sorted(f"ses-{name}" for name in known))
    return (
        f"{index.root}: no table has a column {SITE}, so scans of {sessions} are said to come from the "
        "model's domains of these names. If they do not, say source_unknown=True."
    )
