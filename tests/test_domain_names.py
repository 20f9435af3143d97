"""Names of domains: one that is spelled with composed letters and with marks is one domain everywhere."""

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrharmony.core.domain import find_name, require_distinct, same_name
from mrharmony.core.findings import MrharmonyError
from mrharmony.jobs.columns import column_entries
from mrharmony.networks.card import DomainCard, ModelCard
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


@pytest.mark.parametrize("site", [MARKED, "ZÜRICH"])
@pytest.mark.parametrize(
    ("command", "next_fault"),
    [
        ("train DATA --method zscore --domain SITE --output OUT", "sub-1_"),
        ("train DATA --method cyclegan --pair SITE b --output OUT", "sub-1_"),
        ("train DATA --method cyclegan --pair SITE Zürich --output OUT", "two different domains"),
        ("adapt DATA --domain SITE --output OUT", "sub-1_"),
        ("simulate OUT --anatomy DATA --domain SITE --subjects 1", "sub-1_"),
        ("evaluate sites DATA --domain SITE --domain b", "Site B has scans of one"),
        ("evaluate biology DATA --to SITE", "no column age"),
        ("evaluate paper DATA --from SITE --to Zürich --output OUT", "both source and target"),
        ("benchmark DATA --domain SITE --domain b --output OUT", "B has 1 subjects"),
    ],
)
def test_an_option_finds_its_domain_in_any_spelling(
    run, data_set: Path, tmp_path: Path, command: str, next_fault: str, site: str
):
    places = {"DATA": data_set, "OUT": tmp_path / "out", "SITE": site}
    status, _, errors = run(*(places.get(word, word) for word in command.split()))
    assert status in (2, 3)
    assert next_fault in errors


@pytest.mark.parametrize("written", ["NFC", "NFD"])
@pytest.mark.parametrize("asked", ["NFC", "NFD"])
def test_a_column_is_found_in_either_spelling(data_set: Path, written: str, asked: str):
    table, column = data_set / "participants.tsv", unicodedata.normalize(asked, "Größe")
    table.write_text(
        table.read_text("utf-8").replace("site", unicodedata.normalize(written, "Größe")), "utf-8"
    )
    index = BidsIndex.open(data_set, column)
    assert index.domains == ("B", COMPOSED)
    assert set(column_entries(table, index.scans, column).values()) == {"B", COMPOSED}


def test_a_name_means_the_domain_that_is_spelled_so_or_the_only_one_that_means_the_same():
    assert find_name(("B", "\u0130zmir"), "izmir") == "\u0130zmir"
    assert find_name(("Site 1", "site-1"), "site-1") == "site-1"
    assert find_name(("B", "\u0130zmir"), "Rome") is None
    with pytest.raises(MrharmonyError, match="SITE1: may mean Site 1 or site-1"):
        find_name(("Site 1", "site-1"), "SITE1")


@pytest.mark.parametrize("spelling", [COMPOSED, MARKED, "zürich"])
@pytest.mark.parametrize("known", [COMPOSED, MARKED])
def test_a_model_knows_its_domain_in_either_spelling_and_keeps_its_own(known: str, spelling: str):
    assert _card("B", known).domain(spelling).name == known


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (COMPOSED, MARKED),
        ("A", "a"),
        ("A", "\uff21"),  # of full width
        ("AB", "A\u200bB"),  # a space without width
        ("A", "A\ufe0f"),  # a selector of a variant
        ("A", "A\u3164"),  # a filler
        ("A", "A\u034f"),  # a joiner of marks
        ("O'Brien", "O\u00b4Brien"),
        ("A-1", "A\u22121"),
        ("A/1", "A\u22151"),
        ("\u0130zmir", "izmir"),
        ("1.1", "11"),
        ("A+", "A-"),
        ("A\U0001f600", "A\U0001f60e"),
        ("\u2764", "\u2764\ufe0f"),
        ("+", "-"),
    ],
)
def test_names_that_look_alike_or_would_share_a_label_are_refused_together(one: str, other: str):
    with pytest.raises(MrharmonyError, match="cannot be told from"):
        require_distinct((one, other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("\u0915\u093f", "\u0915\u093e"),  # the letter ka with the vowels i and aa
        ("\u0e01\u0e34", "\u0e01\u0e37"),  # the letter ko kai with the vowels i and ue
        ("X\u0302", "X"),  # a mark that composes with no X
        ("Zurich", MARKED),
        ("\U0001f600", "\U0001f60e"),
        ("\u6771\u4eac", "\u4eac\u90fd"),
    ],
)
def test_names_that_plainly_differ_are_two_domains(one: str, other: str):
    require_distinct((one, other))
    card = _card(one, other)
    assert [card.domain(name).name for name in (one, other)] == [one, other]
    assert _card(one).find(other) is None


@given(st.text(), st.text())
def test_what_means_the_same_does_so_in_every_spelling(one: str, other: str):
    marked = unicodedata.normalize("NFD", one)
    assert same_name(one, marked)
    assert same_name(one, other) == same_name(marked, unicodedata.normalize("NFD", other))
