"""mrharmony: make T1-weighted brain scans of any scanner look as if another had taken them."""

__version__ = "0.1.0"
