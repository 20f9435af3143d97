"""What a scan would look like on reference scanners: a network that knows tissues whatever the contrast."""

from mrharmony.synthesis.looks import reference_looks
from mrharmony.synthesis.mixture import fit_mixture, mixed, mixture_terms
from mrharmony.synthesis.network import ReferenceNetwork
from mrharmony.synthesis.shipped import network_hash, reference_names, save_network, shipped_network

__all__ = [
    "ReferenceNetwork",
    "fit_mixture",
    "mixed",
    "mixture_terms",
    "network_hash",
    "reference_looks",
    "reference_names",
    "save_network",
    "shipped_network",
]
