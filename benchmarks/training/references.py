"""Train the shipped reference network; then the contrast models of the domains have to be fitted again.

python -m benchmarks.training.references BIDS_DIR --domain LA --domain NSK --device cuda

Ten minutes on a GPU beside 16 cores, which draw the virtual scans; on 2 cores most of a day. Resumable.
"""

import torch

from benchmarks._shared.command import start
from mrharmony.jobs.reference_training import train_references
from mrharmony.networks.diffusion.training import SynthesisSettings
from mrharmony.weights import shipped_references

REFERENCES = (
    *("mprage-3t", "mprage-3t-soft", "spgr-1.5t", "mprage-1.5t"),
    *("spgr-3t", "mprage-3t-array", "irspgr-3t", "tfe-3t"),
)
LICENCE = "Apache-2.0 for the weights; the scans are CC0 (NSK, OpenNeuro ds002748) and PDDL (LA, ds000011)."


def main() -> None:
    steps = SynthesisSettings.model_fields["steps"].default
    asked = start(__doc__, "bids_dir", domain=[str], model=shipped_references(), steps=steps, device="cpu")
    settings = SynthesisSettings(references=REFERENCES, steps=asked.steps)
    device = torch.device(asked.device)
    train_references(asked.bids_dir, asked.domain, settings, asked.model, device, LICENCE)


if __name__ == "__main__":
    main()
