"""The model that ships with the package."""

from pathlib import Path


def shipped_model() -> Path:
    """Return the directory of the shipped compact model."""
    return Path(__file__).parent / "compact"
