"""Fit the contrast models and the detail of a model's domains with the shipped network; all else stays.

`python benchmarks/train_accents.py BIDS_DIR WORK --domain LA --domain NSK` writes them into the shipped
model; WORK keeps prepared brains. A quarter of an hour on two cores.
"""

import argparse
from pathlib import Path

from mrharmony.jobs.reference_training import refit_contrast_models
from mrharmony.weights import shipped_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("bids_dir", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--domain", action="append", required=True, help="site whose scans are used")
    parser.add_argument(
        "--model", type=Path, default=shipped_model(), help="gets the contrast models and the detail"
    )
    asked = parser.parse_args()
    fitted = refit_contrast_models(asked.model, asked.bids_dir, asked.domain, asked.work)
    for name, detail in fitted.details.items():
        print(f"{name}: {detail.scans} scans, spread of detail {detail.spread.mean():.2f}")


if __name__ == "__main__":
    main()
