"""Fit the contrast models of a model's domains and protocols with the shipped network; all else stays.

python -m benchmarks.training.contrast_models BIDS_DIR LABEL_MAPS --domain LA --domain NSK

Writes them into the shipped model, or into `--model`. LABEL_MAPS is as in `training.diffusion`. A quarter
of an hour on two cores.
"""

from benchmarks._shared.command import start
from benchmarks.training._network import refit_contrast_models
from benchmarks.training.diffusion import training_anatomies
from mrharmony.weights import shipped_model


def main() -> None:
    asked = start(__doc__, "bids_dir", "label_maps", domain=[str], model=shipped_model())
    anatomies = training_anatomies(asked.bids_dir, asked.domain, asked.label_maps)
    fitted = refit_contrast_models(asked.model, anatomies, asked.work)
    for name, detail in fitted.details.items():
        print(f"{name}: {detail.scans} scans, spread of detail {detail.spread.mean():.2f}")


if __name__ == "__main__":
    main()
