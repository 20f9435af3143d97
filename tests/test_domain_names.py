"""Names of domains: one that is spelled with composed letters and with marks is one domain everywhere."""

import unicodedata
from pathlib import Path

import pytest

from mrharmony.networks.compact.model import DomainCard, ModelCard
from mrharmony.scans.bids import SESSION, BidsIndex

COMPOSED = "Zürich"
MARKED = unicodedata.normalize("NFD", COMPOSED)


@pytest.fixture
def data_set(tmp_path: Path) -> Path:
    """A BIDS folder with a site in both spellings and another; images are empty files."""
    root = tmp_path / "study"
    rows = ["participant_id\tsite"]
    for number, site in enumerate((COMPOSED, MARKED, "B"), start=1):
        path = root / f"sub-{number}" / f"ses-{site}" / "anat" / f"sub-{number}_ses-{site}_T1w.nii.gz"
        path.parent.mkdir(parents=True)
        path.touch()
        rows.append(f"sub-{number}\t{site}")
    (root / "participants.tsv").write_text("\n".join(rows), "utf-8")
    return root


def _card(*names: str) -> ModelCard:
    cards = tuple(DomainCard(name=name, prompt=name, scans=1) for name in names)
    return ModelCard(domains=cards, working_zoom=2, intensity_convention="", training_data="", licence="")


@pytest.mark.parametrize("column", ["site", SESSION])
def test_two_spellings_are_one_domain_in_tables_and_sessions(data_set: Path, column: str):
    assert BidsIndex.open(data_set, column).domains == ("B", COMPOSED)


@pytest.mark.parametrize(
    ("command", "next_fault"),
    [
        (("train", "DATA", "--method", "zscore", "--domain", MARKED, "--output", "OUT"), "sub-1_"),
        (("train", "DATA", "--method", "cyclegan", "--pair", MARKED, "B", "--output", "OUT"), "sub-1_"),
        (("simulate", "OUT", "--anatomy", "DATA", "--domain", MARKED, "--subjects", "1"), "sub-1_"),
        (("evaluate", "biology", "DATA", "--to", MARKED), "no column age"),
    ],
    ids=["domain", "pair", "anatomy", "target"],
)
def test_an_option_finds_its_domain_in_either_spelling(
    run, data_set: Path, tmp_path: Path, command, next_fault
):
    places = {"DATA": data_set, "OUT": tmp_path / "out"}
    status, _, errors = run(*(places.get(word, word) for word in command))
    assert status in (2, 3)
    assert next_fault in errors


@pytest.mark.parametrize("spelling", [COMPOSED, MARKED, "zürich"])
@pytest.mark.parametrize("known", [COMPOSED, MARKED])
def test_a_model_knows_its_domain_in_either_spelling_and_keeps_its_own(known: str, spelling: str):
    assert _card("B", known).domain(spelling).name == known
