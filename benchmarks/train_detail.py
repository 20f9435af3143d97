"""Take the detail of a model's domains, on the scans that their accents were fitted on; all else stays.

`python benchmarks/train_detail.py BIDS_DIR WORK --domain LA --domain NSK` writes `detail.safetensors` into
the shipped model; WORK keeps prepared brains. Five minutes on one core.
"""

import argparse
from pathlib import Path

from mrharmony.cohort.reference_training import refit_detail
from mrharmony.synthesis.training import SynthesisSettings
from mrharmony.weights import shipped_model
from train_references import REFERENCES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bids_dir", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--domain", action="append", required=True, help="site whose scans are used")
    parser.add_argument("--model", type=Path, default=shipped_model(), help="gets the detail")
    asked = parser.parse_args()
    settings = SynthesisSettings(references=REFERENCES)
    details = refit_detail(asked.model, asked.bids_dir, asked.domain, settings, asked.work)
    for name, detail in details.items():
        print(f"{name}: {detail.scans} scans, spread {detail.spread.mean():.2f}")


if __name__ == "__main__":
    main()
