"""Tables of a BIDS folder: rows a session, tables of sessions, other columns, content that is not here."""

import json

import pytest

from mrharmony.core.findings import MrharmonyError
from mrharmony.scans.acquisition import acquisition_findings
from mrharmony.scans.bids import BidsIndex

ANNEXED = ["pointer", "checked-out link", "dangling link"]


@pytest.fixture
def bids(tmp_path):
    """Subject 01 in two sessions, 02 in one, 03 in none; images are empty files."""
    for place in ("sub-01/ses-a", "sub-01/ses-b", "sub-02/ses-a", "sub-03"):
        stem = place.replace("/", "_")
        (tmp_path / place / "anat").mkdir(parents=True)
        (tmp_path / place / "anat" / f"{stem}_T1w.nii.gz").touch()
    return tmp_path


def write_rows(path, *rows):
    path.write_text("".join("\t".join(row.split()) + "\n" for row in rows))


def annexed(path, how):
    """Leave of a file what git-annex leaves where the content was not fetched."""
    path.unlink(missing_ok=True)
    if how == "dangling link":
        path.symlink_to("../.git/annex/objects/a1/b2/MD5E-s9--abc/MD5E-s9--abc")
    else:
        start = "/annex/objects/" if how == "pointer" else "../../../.git/annex/objects/a1/"
        path.write_text(f"{start}MD5E-s9--abc.tsv\n")


def domains(index):
    return [scan.domain for scan in index.scans]


def test_rows_a_session_give_the_values_of_that_session(bids):
    write_rows(
        bids / "participants.tsv",
        "participant_id session_id site age",
        "sub-01 ses-a A 30",
        "sub-01 b B 31",
        "sub-02 n/a C 40",
        "sub-03 ses-a D 50",
    )
    index = BidsIndex.open(bids)
    assert domains(index) == ["A", "B", "C", "D"]
    assert [scan.participant["age"] for scan in index.scans] == ["30", "31", "40", "50"]
    assert index.findings == ()
    with pytest.raises(MrharmonyError, match=r"no column 'session_id'.*: site, age; or session"):
        BidsIndex.open(bids, "session_id")


def test_a_session_that_no_row_is_about_is_told_and_gets_no_other_sessions_site(bids):
    write_rows(
        bids / "participants.tsv",
        "participant_id session_id site",
        "sub-01 ses-a A",
        "sub-02 ses-a B",
        "sub-03 ses-1 C",
        "sub-03 ses-2 D",
    )
    index = BidsIndex.open(bids)
    assert domains(index) == ["A", None, "B", None]
    (finding,) = index.findings
    assert "do not list sub-01_ses-b, sub-03: their domain is not known" in finding.message


def test_two_rows_are_told_apart_by_sessions_or_refused_without_advice_to_remove_any(bids):
    table = bids / "participants.tsv"
    write_rows(table, "participant_id site", "sub-01 A", "sub-01 B")
    with pytest.raises(MrharmonyError, match=r"subject 01 has two rows.*column session_id.*in a copy"):
        BidsIndex.open(bids)
    write_rows(table, "participant_id session_id site", "sub-01 a A", "sub-01 ses-a B")
    with pytest.raises(MrharmonyError, match=r"subject 01 has two rows for session a"):
        BidsIndex.open(bids)


def test_tables_of_sessions_are_read_and_win(bids):
    write_rows(bids / "participants.tsv", "participant_id site sex", "sub-01 A F", "sub-02 B M", "sub-03 C F")
    write_rows(bids / "sub-01/sub-01_sessions.tsv", "session_id site scanner", "ses-b Z new")
    index = BidsIndex.open(bids)
    assert domains(index) == ["A", "Z", "B", "C"]
    assert index.scans[1].participant == {"site": "Z", "sex": "F", "scanner": "new"}
    assert domains(BidsIndex.open(bids, "scanner")) == [None, "new", None, None]
    (bids / "sub-01/sub-01_sessions.tsv").write_text("session,site\nses-b,Z\n")
    index = BidsIndex.open(bids)
    assert domains(index) == ["A", "A", "B", "C"]
    (finding,) = index.findings
    assert finding.message.startswith("sub-01/sub-01_sessions.tsv: no column session_id")


def test_a_column_written_otherwise_is_offered_and_never_taken(bids):
    write_rows(bids / "participants.tsv", "participant_id SITE Split", "sub-01 A train", "sub-02 B test")
    with pytest.raises(MrharmonyError, match=r"no column 'site', but 'SITE'.*domain_column='SITE'"):
        BidsIndex.open(bids)
    index = BidsIndex.open(bids, None)
    assert index.domain_column == "session"
    assert [finding.code for finding in index.findings[:2]] == ["bids-column"] * 2
    assert "'Split', which is not taken for 'split'" in index.findings[0].message
    assert "'SITE', which is not taken for 'site'" in index.findings[1].message
    assert domains(BidsIndex.open(bids, "SITE")) == ["A", "A", "B", None]


def test_a_column_that_tables_of_sessions_alone_have_is_told_with_their_name(bids):
    write_rows(bids / "participants.tsv", "participant_id age", "sub-01 30", "sub-02 40")
    for subject in ("01", "02"):
        table = bids / f"sub-{subject}" / f"sub-{subject}_sessions.tsv"
        write_rows(table, "session_id scanner age", "ses-a A 30", "ses-b B 31")
    (told,) = (found.message for found in BidsIndex.open(bids, None).findings if found.code == "bids-column")
    assert told == "sub-*_sessions.tsv has a column 'scanner', which is not taken for 'site'."
    with pytest.raises(MrharmonyError, match=r"sub-\*_sessions.tsv: no column 'Scanner', but 'scanner'"):
        BidsIndex.open(bids, "Scanner")
    write_rows(bids / "participants.tsv", "participant_id scanner", "sub-01 A", "sub-02 B")
    (told,) = (found.message for found in BidsIndex.open(bids, None).findings if found.code == "bids-column")
    assert told.startswith("participants.tsv has a column 'scanner'")


@pytest.mark.parametrize("how", ANNEXED)
def test_a_table_whose_content_is_not_here_is_fetched_by_who_needs_it(bids, how):
    annexed(bids / "participants.tsv", how)
    for column in ("site", "session"):  # also where only the split of the table could count
        with pytest.raises(MrharmonyError, match=r"content of this table is not here.*datalad get"):
            BidsIndex.open(bids, column)
    index = BidsIndex.open(bids, None)
    assert domains(index) == [None] * 4
    (finding,) = index.findings
    assert (finding.code, finding.level) == ("bids-bad-table", "warning")
    assert finding.message.startswith("participants.tsv: the content of this table is not here.")


@pytest.mark.parametrize("how", ANNEXED)
def test_a_sidecar_whose_content_is_not_here_is_told_in_the_same_words(bids, how):
    sidecar = bids / "sub-03/anat/sub-03_T1w.json"
    annexed(sidecar, how)
    (finding, _) = BidsIndex.open(bids, None).findings  # and that sub-03 has no session
    assert "The content of the sidecar sub-03/anat/sub-03_T1w.json is not here" in finding.message
    assert "datalad get" in finding.fix
    (finding,) = acquisition_findings(sidecar.with_name("sub-03_T1w.nii.gz"))
    assert (finding.code, finding.level) == ("sidecar-missing", "warning")
    sidecar.unlink()
    sidecar.write_text(json.dumps({"Manufacturer": "/annex/objects/"}))
    assert len(BidsIndex.open(bids, None).findings) == 1


def test_a_sidecar_with_a_byte_order_mark_tells_of_a_contrast_agent(tmp_path):
    told = json.dumps({"ContrastBolusIngredient": "GADOLINIUM"})
    (tmp_path / "sub-1_T1w.json").write_text(told, encoding="utf-8-sig")
    assert [one.code for one in acquisition_findings(tmp_path / "sub-1_T1w.nii.gz")] == ["contrast-agent"]
