"""How the settings of `mrharmony evaluate unlearning` were chosen: on training subjects alone.

python benchmarks/unlearning_settings.py COHORT --domain-column session --factor ventricle_scale --log \
    --work BRAINS --output FOLDER

Writes FOLDER/settings-NAME.md and .json, NAME the cohort's. COHORT is a data set whose participants.tsv
has a column `split`. Its test subjects are left out before anything else; the others are divided into five
folds by subject, and every setting is trained on four and validated on the fifth. BRAINS keeps the prepared
brains (see `mrharmony evaluate unlearning --work`).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mrharmony.core.atomic import write_json, write_text
from mrharmony.evaluate.unlearning.study import unlearning_study
from mrharmony.evaluate.unlearning.training import UnlearningSettings
from mrharmony.jobs.unlearning import UnlearningRequest, mean_figures, unlearning_data
from mrharmony.scans.bids import BidsIndex, BidsScan
from mrharmony.scans.participants import SPLIT
from mrharmony.weights import shipped_model

CHOICES: tuple[dict[str, float], ...] = (
    {},
    {"features": 2},
    {"features": 3},
    {"features": 8},
    {"features": 16},
    {"hidden": 64},
    {"hidden": 64, "features": 16},
    {"site_steps": 1},
    {"unlearning_steps": 300, "confusion_weight": 3},
    {"unlearning_rate": 1e-3},
)
COLUMNS = {
    "task R²": "task r2",
    "site, linear": "site, linear probe retrained",
    "site, network": "site, network probe retrained",
    "site, linear, shuffled": "site, linear probe, shuffled labels",
    "frozen head": "site, frozen site head",
}


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
    rows = [{"settings": chosen} | row for chosen, row in validated(index, request)]
    about = {"data": asked.cohort.name, "factor": f"log {asked.factor}" if asked.log else asked.factor}
    path = asked.output / f"settings-{asked.cohort.name}"
    write_json(path.with_suffix(".json"), about | {"rows": rows})
    write_text(path.with_suffix(".md"), markdown(about, rows))


def markdown(about: dict[str, str], rows: Sequence[dict[str, Any]]) -> str:
    """Return the table: of every figure before unlearning and after it."""
    head = ["settings", *(f"{name}, {phase}" for name in COLUMNS for phase in ("before", "after"))]
    lines = [_line(head), "|---|" + "---:|" * (len(head) - 1)]
    for row in rows:
        cells = [f"{row[phase][key]:.2f}" for key in COLUMNS.values() for phase in ("before", "after")]
        chosen = ", ".join(f"{name} {value:g}" for name, value in row["settings"].items())
        lines.append(_line([chosen or "default", *cells]))
    where = f"{about['data']}, training subjects, five folds by subject; {about['factor']}; three seeds."
    return f"# Settings of unlearning\n\n{where}\n\n" + "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def validated(index: BidsIndex, request: UnlearningRequest) -> list[tuple[dict, dict]]:
    """Return each choice with its scores on the validation folds of the training subjects."""
    training = tuple(unsplit(scan) for scan in index.scans if scan.participant.get(SPLIT) == "train")
    data, _ = unlearning_data(replace(index, scans=training), request)
    rows = []
    for chosen in CHOICES:
        study = unlearning_study(data, UnlearningSettings(**chosen))
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
