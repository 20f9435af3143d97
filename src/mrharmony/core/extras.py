"""Optional packages: what is missing is named together with the extra that brings it."""

from __future__ import annotations

from importlib.util import find_spec

from mrharmony.core.findings import MrharmonyError


def require_extra(module: str, extra: str) -> None:
    """Refuse to go on without an optional package; nothing is imported.

    Parameters
    ----------
    module
        Its top-level module, such as `neuroCombat`.
    extra
        The extra of mrharmony that brings it: `rivals`, `stable-diffusion`, `train` or `dicom`.

    Raises
    ------
    MrharmonyError
        If the package is not installed.
    """
    if find_spec(module) is None:
        package = module.replace("_", "-")
        raise MrharmonyError(
            f"This needs the package {package}, which is not installed. "
            f"Install it: pip install 'mrharmony[{extra}]'."
        )
