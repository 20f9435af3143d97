"""The looks of one scan: sampled when first asked for, then kept, so that many targets share the work."""

from __future__ import annotations

import torch

from mrharmony.latent import (
    LatentModel,
    SamplingSettings,
    encode_brain,
    invert_brain,
    round_trip,
    sample_look,
)
from mrharmony.prepare import PreparedScan
from mrharmony.volume import Domain, MrharmonyError, Volume


class Looks:
    """A scan's looks in the domains of a model.

    Parameters
    ----------
    model
        The compact model.
    scan
        The prepared scan.
    settings
        Of the sampling.
    """

    def __init__(self, model: LatentModel, scan: PreparedScan, settings: SamplingSettings) -> None:
        brain, self.mask = scan.canonical(model.grid)
        self.positions = model.grid.positions()[self.mask]
        self.encoded = encode_brain(model, brain)
        self._model = model
        self._settings = settings
        self._sampled: dict[tuple[str, str | None], Volume] = {}
        self._noises: dict[str, torch.Tensor] = {}
        self._round_trip: Volume | None = None

    def of(self, domain: Domain, source: Domain | None = None) -> Volume:
        """Return the look in a domain that the model knows, on the model's grid, canonical units.

        The source tells only DDIB anything: the scan is inverted under its prompt.

        Raises
        ------
        MrharmonyError
            If DDIB is not told the source.
        """
        inverted = inversion_domain(self._settings, source)
        key = domain.name, inverted.name if inverted else None
        if key not in self._sampled:
            start = self._noise(inverted) if inverted else None
            self._sampled[key] = sample_look(self._model, self.encoded, domain, self._settings, start)
        return self._sampled[key]

    def round_trip(self) -> Volume:
        """Return the scan itself as the autoencoder gives it back, on the model's grid."""
        if self._round_trip is None:
            self._round_trip = round_trip(self._model, self.encoded)
        return self._round_trip

    def _noise(self, source: Domain) -> torch.Tensor:
        if source.name not in self._noises:
            self._noises[source.name] = invert_brain(self._model, self.encoded, source, self._settings)
        return self._noises[source.name]


def inversion_domain(settings: SamplingSettings, source: Domain | None) -> Domain | None:
    """Return the domain under whose prompt a scan is inverted; None where looks start from drawn noise.

    Raises
    ------
    MrharmonyError
        If there is to be an inversion and the source is unknown.
    """
    if not settings.ddib:
        return None
    if source is None:
        raise MrharmonyError(
            "DDIB must know the domain that a scan comes from. Name it with --from, or leave ddib out."
        )
    return source
