"""Optional packages: what is missing is named together with the extra that brings it."""

from __future__ import annotations

from importlib.util import find_spec

from mrharmony.core.findings import MrharmonyError


def require_extra(extra: str, *modules: str) -> None:
    """Raise `MrharmonyError` where one of an extra's packages is not installed; nothing is imported.

    Parameters
    ----------
    extra
        The extra of mrharmony that brings them: `rivals`, `stable-diffusion`, `train` or `dicom`.
    modules
        Their top-level modules, such as `neuroCombat`.
    """
    for module in modules:
        if find_spec(module) is None:
            package = {"ants": "antspyx"}.get(module, module.replace("_", "-"))
            raise MrharmonyError(
                f"This needs the package {package}, which is not installed. "
                f"Install it: pip install 'mrharmony[{extra}]'."
            )
