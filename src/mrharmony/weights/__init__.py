"""The models that ship with the package."""

from pathlib import Path


def shipped_model() -> Path:
    """Return the directory of the shipped compact model."""
    return Path(__file__).parent / "compact"


def shipped_network_folder() -> Path:
    """Return the directory of the shipped diffusion network."""
    return Path(__file__).parent / "diffusion"
