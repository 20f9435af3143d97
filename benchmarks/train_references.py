"""Train the shipped reference network; then the contrast models have to be fitted again (`train_accents.py`).

`python benchmarks/train_references.py BIDS_DIR --domain LA --domain NSK --device cuda`; ten minutes on a
GPU beside 16 cores, which draw the virtual scans; on 2 cores most of a day. Resumable.
"""

import argparse
from pathlib import Path

import torch

from mrharmony.jobs.reference_training import train_references
from mrharmony.networks.reference.training import SynthesisSettings
from mrharmony.weights import shipped_references

REFERENCES = (
    "mprage-3t",
    "mprage-3t-soft",
    "spgr-1.5t",
    "mprage-1.5t",
    "spgr-3t",
    "mprage-3t-array",
    "irspgr-3t",
    "tfe-3t",
)

LICENCE = "Apache-2.0 for the weights; the scans are CC0 (NSK, OpenNeuro ds002748) and PDDL (LA, ds000011)."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bids_dir", type=Path)
    parser.add_argument("--domain", action="append", required=True, help="site whose anatomies are used")
    parser.add_argument("--output", type=Path, default=shipped_references())
    parser.add_argument("--steps", type=int, default=SynthesisSettings.model_fields["steps"].default)
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    settings = SynthesisSettings(references=REFERENCES, steps=asked.steps)
    device = torch.device(asked.device)
    train_references(asked.bids_dir, asked.domain, settings, asked.output, device, LICENCE)


if __name__ == "__main__":
    main()
