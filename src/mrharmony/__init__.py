"""mrharmony: make T1-weighted brain scans of any scanner look as if another had taken them."""

from mrharmony.core.version import __version__

__all__ = ["__version__"]
