"""Optional packages: what is missing is named together with the extra that brings it."""

from __future__ import annotations

from importlib.util import find_spec

from mrharmony.core.findings import MrharmonyError


def require_extra(module: str, extra: str) -> None:
    """Raise `MrharmonyError` where an optional package is not installed; nothing is imported.

    Parameters
    ----------
    module
        Its top-level module, such as `neuroCombat`.
    extra
        The extra of mrharmony that brings it: `rivals`, `stable-diffusion`, `train` or `dicom`.
    """
    if find_spec(module) is None:
        package = module.replace("_", "-")
        raise MrharmonyError(
            f"This needs the package {package}, which is not installed. "
            f"Install it: pip install 'mrharmony[{extra}]'."
        )
