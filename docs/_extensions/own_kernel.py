"""Notebooks run in the very Python that builds the site, whatever the machine's Jupyter is set to."""

from __future__ import annotations

import json
import os
from pathlib import Path

from ipykernel.kernelspec import get_kernel_dict
from sphinx.application import Sphinx


def offer_kernel(app: Sphinx) -> None:
    """Make this Python the first kernel that is found, without a user's settings and start-up files."""
    folder = Path(app.doctreedir) / "jupyter"
    kernel = folder / "kernels" / "python3" / "kernel.json"
    kernel.parent.mkdir(parents=True, exist_ok=True)
    kernel.write_text(json.dumps(get_kernel_dict(["--log-level=ERROR"])), "utf-8")
    os.environ |= {
        "JUPYTER_PATH": str(folder),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "IPYTHONDIR": str(folder / "ipython"),
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    }


def setup(app: Sphinx) -> dict[str, bool]:
    """Prepare the kernel before the first document is read."""
    app.connect("builder-inited", offer_kernel)
    return {"parallel_read_safe": True}
