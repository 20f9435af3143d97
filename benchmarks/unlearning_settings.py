"""How the settings of `mrharmony evaluate unlearning` were chosen: on training subjects alone.

python benchmarks/unlearning_settings.py COHORT --domain-column session --factor ventricle_scale --log \
    --work BRAINS --output FILE

COHORT is a data set whose participants.tsv has a column `split`. Its test subjects are left out before
anything else; the others are divided into five folds by subject, and every setting is trained on four and
validated on the fifth. BRAINS keeps the prepared brains (see `mrharmony evaluate unlearning --work`).
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from mrharmony.cohort.unlearning import UnlearningRequest, unlearning_data
from mrharmony.cohort.unlearning_record import mean_figures
from mrharmony.evaluate.unlearning import UnlearningSettings, unlearning_study
from mrharmony.scans import BidsIndex, BidsScan, write_json
from mrharmony.scans.participants import SPLIT
from mrharmony.weights import shipped_model

CHOICES: tuple[dict[str, float], ...] = (
    {},
    {"features": 2},
    {"features": 8},
    {"features": 16},
    {"hidden": 64},
    {"hidden": 64, "features": 16},
    {"site_steps": 1},
    {"unlearning_steps": 300, "confusion_weight": 3},
    {"unlearning_rate": 1e-3},
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--domain-column", default="site")
    parser.add_argument("--factor", default="age")
    parser.add_argument("--log", action="store_true")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    asked = parser.parse_args()
    index = BidsIndex.open(asked.cohort, asked.domain_column)
    request = UnlearningRequest(asked.factor, asked.log, shipped_model(), (), asked.work)
    rows = [row | {"settings": chosen} for chosen, row in validated(index, request)]
    write_json(asked.output, {"data": asked.cohort.name, "factor": asked.factor, "rows": rows})


def validated(index: BidsIndex, request: UnlearningRequest) -> list[tuple[dict, dict]]:
    """Return each choice with its scores on the validation folds of the training subjects."""
    training = tuple(unsplit(scan) for scan in index.scans if scan.participant.get(SPLIT) == "train")
    data, _ = unlearning_data(replace(index, scans=training), request)
    rows = []
    for chosen in CHOICES:
        study = unlearning_study(data, UnlearningSettings(**chosen), seeds=(0,))
        row = {phase: mean_figures(getattr(study, phase)) for phase in ("before", "after")}
        rows.append((chosen, row))
        print(
            chosen,
            {phase: {k: round(float(v), 2) for k, v in row[phase].items()} for phase in row},
            flush=True,
        )
    return rows


def unsplit(scan: BidsScan) -> BidsScan:
    """Return a scan whose table does not say which part it belongs to."""
    return replace(scan, participant={k: v for k, v in scan.participant.items() if k != SPLIT})


if __name__ == "__main__":
    main()
