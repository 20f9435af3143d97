"""Fit the contrast models and the detail of a model's domains with the shipped network; all else stays.

python -m benchmarks.training.contrast_models BIDS_DIR --domain LA --domain NSK

Writes them into the shipped model, or into `--model`. A quarter of an hour on two cores.
"""

from benchmarks._shared.command import start
from mrharmony.jobs.network_training import refit_contrast_models
from mrharmony.weights import shipped_model


def main() -> None:
    asked = start(__doc__, "bids_dir", domain=[str], model=shipped_model())
    fitted = refit_contrast_models(asked.model, asked.bids_dir, asked.domain, asked.work)
    for name, detail in fitted.details.items():
        print(f"{name}: {detail.scans} scans, spread of detail {detail.spread.mean():.2f}")


if __name__ == "__main__":
    main()
