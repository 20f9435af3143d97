"""Train the shipped diffusion network; then the contrast models of the domains have to be fitted again.

python -m benchmarks.training.diffusion BIDS_DIR LABEL_MAPS --domain LA --domain NSK --start DIR

LABEL_MAPS is a folder of `*_dseg.nii.gz`; those of `JUDGE_HEADS` train nothing. The shipped network was
fine-tuned from an earlier one that regressed the references' contrasts. Only the history of the repository
holds that: `git show cde429c:src/mrharmony/weights/references/network.safetensors > DIR/network.safetensors`.
Without `--start` weights are random at first, which gives another network. On 2 cores 6,000 steps of 16
slices take about an hour and a half. Resumable.
"""

from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks._shared.command import start
from benchmarks.training._network import Anatomies, train_network
from mrharmony.networks.diffusion.training import DiffusionSettings
from mrharmony.simulate.label_maps import JUDGE_HEADS
from mrharmony.weights import shipped_network_folder

REFERENCES = (
    *("mprage-3t", "mprage-3t-soft", "spgr-1.5t", "mprage-1.5t"),
    *("spgr-3t", "mprage-3t-array", "irspgr-3t", "tfe-3t"),
)
LICENCE = (
    "Apache-2.0 for the weights; the scans are CC0 (NSK, OpenNeuro ds002748) and PDDL (LA, ds000011), the "
    "label maps Apache-2.0 (SynthSeg, Billot et al. 2023, Med Image Anal 86:102789)."
)


def main() -> None:
    asked = start(
        __doc__,
        "bids_dir",
        "label_maps",
        domain=[str],
        model=shipped_network_folder(),
        start=Path(),
        steps=6000,
        batch=16,
        learning_rate=6e-4,
        device="cpu",
    )
    settings = DiffusionSettings(
        references=REFERENCES, steps=asked.steps, batch=asked.batch, learning_rate=asked.learning_rate
    )
    anatomies = training_anatomies(asked.bids_dir, asked.domain, asked.label_maps)
    first = asked.start if asked.start != Path() else None
    train_network(anatomies, settings, asked.model, torch.device(asked.device), LICENCE, first)


def training_anatomies(bids_dir: Path, only: Sequence[str], label_maps: Path) -> Anatomies:
    """Return what heads are made of: scans of some sites, and the label maps that do not judge."""
    found = sorted(label_maps.glob("*_dseg.nii.gz"))
    return Anatomies(bids_dir, only, [path for path in found if path.name not in JUDGE_HEADS])


if __name__ == "__main__":
    main()
