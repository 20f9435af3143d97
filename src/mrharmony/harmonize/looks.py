"""The looks of one scan: sampled when first asked for, then kept, so that many targets share the work."""

from __future__ import annotations

from mrharmony.latent import LatentModel, SamplingSettings, encode_brain, round_trip, sample_look
from mrharmony.prepare import PreparedScan
from mrharmony.volume import Domain, Volume


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
        self._sampled: dict[str | None, Volume] = {}

    def of(self, domain: Domain) -> Volume:
        """Return the look in a domain that the model knows, on the model's grid, canonical units."""
        if domain.name not in self._sampled:
            self._sampled[domain.name] = sample_look(self._model, self.encoded, domain, self._settings)
        return self._sampled[domain.name]

    def round_trip(self) -> Volume:
        """Return the scan itself as the autoencoder gives it back, on the model's grid."""
        if None not in self._sampled:
            self._sampled[None] = round_trip(self._model, self.encoded)
        return self._sampled[None]
