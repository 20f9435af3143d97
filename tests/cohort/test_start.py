"""Harmonizing a prepared scan starts without the libraries that it does not use."""

from __future__ import annotations

import subprocess
import sys

SLOW = {"diffusers", "transformers", "accelerate", "peft", "ants", "deepbet", "nilearn", "pandas"}
SLOW |= {"matplotlib", "joblib", "scipy.stats"}


def test_opening_a_method_imports_nothing_slow():
    script = (
        "import sys\n"
        "from mrharmony.jobs.harmonizing import harmonize_scan\n"
        "from mrharmony.jobs.opening import open_job\n"
        "open_job(None, 'diffusion', None, 'NSK')\n"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not SLOW & set(done.stdout.split())
