"""A BIDS folder is indexed without touching it, and its oddities are told."""

import json
import os

import pytest

from mrharmony.core.findings import MrharmonyError
from mrharmony.scans.bids import SESSION, BidsIndex

TABLE = "participant_id\tsite\tage\nsub-01\tA\t30\n02\tB\tn/a\n"


@pytest.fixture
def bids(tmp_path):
    """A BIDS folder with two subjects from two sites, one of them in a session; images are empty files."""
    root = tmp_path / "my bids ü"
    for name in ("sub-01/anat/sub-01_T1w.nii.gz", "sub-02/ses-x/anat/sub-02_ses-x_T1w.nii"):
        (root / name).parent.mkdir(parents=True)
        (root / name).touch()
    (root / "participants.tsv").write_text(TABLE, "utf-8")
    return root


def write_table(root, text, encoding="utf-8"):
    (root / "participants.tsv").write_bytes(text.encode(encoding))


def codes(index):
    return {finding.code: finding.level for finding in index.findings}


def test_scans_get_their_domain_from_the_table_with_and_without_prefix(bids):
    index = BidsIndex.open(bids)
    first, second = index.scans
    assert (first.subject, first.session, first.domain) == ("01", None, "A")
    assert (second.subject, second.session, second.domain) == ("02", "x", "B")
    assert first.path == bids / "sub-01/anat/sub-01_T1w.nii.gz"
    assert first.participant == {"site": "A", "age": "30"}
    assert second.participant == {"site": "B"}
    assert index.domains == ("A", "B")
    assert index.findings == ()


def test_indexing_changes_nothing(bids):
    before = sorted((path, path.stat().st_mtime_ns) for path in bids.rglob("*"))
    BidsIndex.open(bids)
    assert sorted((path, path.stat().st_mtime_ns) for path in bids.rglob("*")) == before


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_byte_order_mark_line_ends_blank_lines_and_spaces_are_tolerated(bids, encoding):
    write_table(bids, TABLE.replace("\n", "\r\n").replace("\tA\t", "\t Zürich \t") + "\r\n\t\t\r\n", encoding)
    assert BidsIndex.open(bids).domains == ("B", "Zürich")


def test_any_column_can_name_the_domain(bids):
    index = BidsIndex.open(bids, domain_column="age")
    assert [scan.domain for scan in index.scans] == ["30", None]


def test_a_missing_column_is_answered_with_those_that_exist(bids):
    with pytest.raises(MrharmonyError, match=r"no column 'scanner'\. .*: site, age; or session"):
        BidsIndex.open(bids, domain_column="scanner")


def test_the_session_can_be_the_domain_with_or_without_a_table(bids):
    index = BidsIndex.open(bids, domain_column="session")
    assert [scan.domain for scan in index.scans] == [None, "x"]
    assert codes(index) == {"bids-no-domain": "warning"}
    (bids / "participants.tsv").unlink()
    assert BidsIndex.open(bids, domain_column="session").domains == ("x",)


def test_where_no_domain_is_needed_the_site_is_taken_if_it_is_there(bids):
    assert BidsIndex.open(bids, None).domain_column == "site"
    write_table(bids, "participant_id\tage\nsub-01\t30\n")
    assert BidsIndex.open(bids, None).domain_column == SESSION
    assert "bids-column" not in codes(BidsIndex.open(bids, None))
    write_table(bids, "participant_id\tscanner\nsub-01\tA\n")
    (finding,) = (found for found in BidsIndex.open(bids, None).findings if found.code == "bids-column")
    assert "column 'scanner', which is not taken for 'site'" in finding.message
    assert "--domain-column" in finding.fix
    (bids / "participants.tsv").unlink()
    assert BidsIndex.open(bids, None).domain_column == SESSION
    assert [scan.domain for scan in BidsIndex.open(bids, SESSION).scans] == [None, "x"]


def test_subjects_that_the_table_does_not_list_have_no_domain_and_are_told(bids):
    write_table(bids, "participant_id\tsite\nsub-01\tA\n")
    index = BidsIndex.open(bids)
    assert [scan.domain for scan in index.scans] == ["A", None]
    assert codes(index) == {"bids-unlisted": "warning"}
    assert "sub-02" in index.findings[0].message


def test_participants_without_a_folder_are_told_once(bids):
    write_table(bids, "participant_id\tsite\nsub-01\tA\nsub-02\tA\nsub-03\tB\n1\tB\n")
    (finding,) = BidsIndex.open(bids).findings
    assert (finding.code, finding.level) == ("bids-absent", "info")
    assert "lists sub-03, sub-1, of whom there is no folder" in finding.message
    (bids / "sub-01").rename(bids / "sub-1")
    found = BidsIndex.open(bids)
    assert codes(found) == {"bids-absent": "info", "bids-misnamed": "warning"}


def test_a_domain_that_is_not_available_is_none_and_told(bids):
    write_table(bids, "participant_id\tsite\nsub-01\tn/a\nsub-02\n")
    index = BidsIndex.open(bids)
    assert [scan.domain for scan in index.scans] == [None, None]
    assert index.domains == ()
    assert index.findings == ()  # commands that need domains say that there are none
    write_table(bids, "participant_id\tsite\nsub-01\tn/a\nsub-02\tB\n")
    (finding,) = BidsIndex.open(bids).findings
    assert (finding.code, finding.level) == ("bids-no-domain", "warning")
    assert "sub-01" in finding.message


def test_many_subjects_without_domain_are_one_finding(bids):
    for label in range(10, 30):
        (bids / f"sub-{label}/anat").mkdir(parents=True)
        (bids / f"sub-{label}/anat/sub-{label}_T1w.nii").touch()
    (finding,) = BidsIndex.open(bids).findings
    assert "sub-14 and 15 more" in finding.message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"\n\n", "empty"),
        (b"participant_id\tsite\n", "empty"),
        (b"participant_id,site\nsub-01,A\n", "separated by tabs"),
        (b"subject\tsite\nsub-01\tA\n", "no column participant_id, only subject, site"),
        (b"participant_id\tsite\tsite\nsub-01\tA\tB\n", "'site' appears twice"),
        (b"participant_id\tsite\nsub-01\tA\n01\tA\n", "subject 01 has two rows"),
        (b"participant_id\tsite\nsub-01\tA\tB\n", "more fields than the header"),
        (b"participant_id\tsite\n\tA\n", "has no participant_id"),
        (b'participant_id\tsite\nsub-01\t"A\nsub-02\tB\n', "quotation mark"),
        ("participant_id\tsite\nsub-01\tÄ\n".encode("latin-1"), "UTF-8"),
        ("participant_id\tsite\nsub-01\tA\n".encode("utf-16"), "UTF-8"),
        ("participant_id\tsite\nsub-01\tA\n".encode("utf-16-le"), "not text in UTF-8"),
        (b"participant_id\tsite\nsub-01\t" + b"A" * 200_000 + b"\n", "not a table"),
    ],
)
def test_a_table_that_cannot_be_used_is_told(bids, content, message):
    (bids / "participants.tsv").write_bytes(content)
    with pytest.raises(MrharmonyError, match=message) as failure:
        BidsIndex.open(bids)
    assert str(bids / "participants.tsv") in str(failure.value)


def test_what_is_no_file_is_not_waited_for(bids):
    (bids / "participants.tsv").unlink()
    os.mkfifo(bids / "participants.tsv")
    os.mkfifo(bids / "T1w.json")
    with pytest.raises(MrharmonyError, match="a folder, a pipe or a device"):
        BidsIndex.open(bids)
    assert codes(BidsIndex.open(bids, None))["bids-bad-sidecar"] == "warning"


def test_annexed_tables_and_sidecars_are_to_be_fetched(bids):
    for name in ("participants.tsv", "T1w.json"):
        (bids / name).write_text("/annex/objects/MD5E-s100--0123456789abcdef\n")
    with pytest.raises(MrharmonyError, match=r"participants\.tsv: .*datalad get"):
        BidsIndex.open(bids)
    (bids / "participants.tsv").unlink()
    (bids / "participants.tsv").symlink_to("../.git/annex/objects/gone")
    with pytest.raises(MrharmonyError, match=r"participants\.tsv: .*datalad get"):
        BidsIndex.open(bids)
    findings = BidsIndex.open(bids, None).findings
    assert sum("datalad get" in one.message + one.fix for one in findings) == 2


def test_a_folder_without_table_or_scans_or_that_is_none_is_told(bids, tmp_path):
    with pytest.raises(MrharmonyError, match="not a folder"):
        BidsIndex.open(tmp_path / "absent")
    with pytest.raises(MrharmonyError, match="not a folder"):
        BidsIndex.open(bids / "participants.tsv")
    (bids / "participants.tsv").rename(tmp_path / "participants.tsv")
    with pytest.raises(MrharmonyError, match="participant_id and site"):
        BidsIndex.open(bids)
    with pytest.raises(MrharmonyError, match="no scans"):
        BidsIndex.open(tmp_path)


def test_a_table_that_is_a_folder_is_told(bids):
    (bids / "participants.tsv").unlink()
    (bids / "participants.tsv").mkdir()
    with pytest.raises(MrharmonyError, match="cannot be read"):
        BidsIndex.open(bids)


def test_a_scan_that_the_validator_is_to_ignore_does_not_vanish(bids):
    before = BidsIndex.open(bids)
    (bids / ".bidsignore").write_text("sub-01\n*_T1w.nii.gz\n")
    assert BidsIndex.open(bids) == before


def test_other_files_are_no_scans(bids):
    for name in ("._sub-01_T1w.nii.gz", "sub-01_T2w.nii.gz", "sub-01_T1w.nii.gz.part", "sub-01_T1w.json"):
        (bids / "sub-01/anat" / name).write_text("{}")
    (bids / "derivatives/sub-01/anat").mkdir(parents=True)
    (bids / "derivatives/sub-01/anat/sub-01_T1w.nii.gz").touch()
    (bids / "sub-03").touch()
    assert len(BidsIndex.open(bids).scans) == 2


def test_a_link_without_content_is_told_and_stays_in_the_index(bids):
    scan = bids / "sub-01/anat/sub-01_T1w.nii.gz"
    scan.unlink()
    scan.symlink_to("../../.git/annex/objects/gone")
    index = BidsIndex.open(bids)
    assert codes(index) == {"bids-broken-link": "error"}
    assert len(index.scans) == 2


def test_a_link_that_leads_to_itself_is_told_and_nothing_is_fetched(bids):
    scan = bids / "sub-01/anat/sub-01_T1w.nii.gz"
    scan.unlink()
    scan.symlink_to(scan.name)
    index = BidsIndex.open(bids)
    assert codes(index) == {"bids-link-to-itself": "error"}
    assert len(index.scans) == 2
    loop = bids / "loop"
    loop.symlink_to(loop.name)
    with pytest.raises(MrharmonyError, match=f"{loop} is a link that leads to itself"):
        BidsIndex.open(loop)


def test_a_file_in_the_folder_of_another_subject_is_told(bids):
    folder = bids / "sub-01/anat"
    (folder / "sub-01_T1w.nii.gz").rename(folder / "sub-010_T1w.nii.gz")
    index = BidsIndex.open(bids)
    assert codes(index) == {"bids-misnamed": "warning"}
    assert index.scans[0].subject == "01"


def test_of_a_scan_that_is_there_twice_the_compressed_one_is_read_and_that_is_told(bids):
    (bids / "sub-01/anat/sub-01_T1w.nii").touch()
    index = BidsIndex.open(bids)
    assert codes(index) == {"bids-duplicate": "warning"}
    assert "sub-01_T1w.nii.gz is read" in index.findings[0].message
    assert len(index.scans) == 2


@pytest.mark.parametrize(
    ("file", "told"),
    [
        ("anat/sub-03_T1W.nii.gz", "sub-03; sub-03 has anat/sub-03_T1W.nii.gz, which BIDS writes anat/*_T1w"),
        ("ses-1/anat/sub-03_ses-1_t1w.NII", "sub-03 has ses-1/anat/sub-03_ses-1_t1w.NII, which BIDS writes"),
        ("sub-03_T1w.nii.gz", "sub-03; sub-03 has sub-03_T1w.nii.gz, which BIDS writes anat/*_T1w.nii.gz."),
        ("anat/sub-03_T2w.nii.gz", "1 of 3 people has no T1w scan: sub-03."),
        ("anat/sub-03_part-phase_T1w.nii.gz", "1 of 3 people has no T1w scan: sub-03."),
        ("anat/sub-03_T1map.nii.gz", "1 of 3 people has no T1w scan: sub-03."),
        ("", "1 of 3 people has no T1w scan: sub-03."),
    ],
)
def test_a_person_without_a_t1w_scan_is_told_and_a_file_that_may_be_one(bids, file, told):
    write_table(bids, f"{TABLE}sub-03\tB\t40\n")
    (bids / "sub-03" / file).parent.mkdir(parents=True, exist_ok=True)
    (bids / "sub-03" / file).touch() if file else (bids / "sub-03").mkdir()
    index = BidsIndex.open(bids)
    assert codes(index) == {"bids-no-scan": "warning"}
    assert told in index.findings[0].message
    assert {scan.subject for scan in index.scans} == {"01", "02"}


def test_a_data_set_of_misnamed_scans_alone_is_refused_with_one_of_them(bids):
    for path in list(bids.glob("sub-*/**/*_T1w.nii*")):
        path.rename(path.with_name(path.name.replace("T1w", "t1w")))
    told = (
        r"_T1w.nii\[.gz\]; sub-01 has anat/sub-01_t1w.nii.gz, which BIDS writes anat/\*_T1w.nii.gz. Name the"
    )
    with pytest.raises(MrharmonyError, match=told):
        BidsIndex.open(bids)


def test_many_people_without_a_t1w_scan_are_one_finding_and_files_are_no_people(bids):
    for label in range(10, 110):
        (bids / f"sub-{label}/anat").mkdir(parents=True)
    (bids / "sub-99/anat/sub-99_T1.nii.gz").touch()
    (bids / "sub-01.html").touch()
    (finding,) = BidsIndex.open(bids).findings
    assert finding.message.startswith("100 of 102 people have no T1w scan: sub-10, sub-100, sub-101, ")
    assert "and 95 more; sub-99 has anat/sub-99_T1.nii.gz, which" in finding.message


def test_mp2rage_images_are_scans_where_no_t1w_lies_beside_them(bids):
    for name in ("sub-03/ses-a/anat/sub-03_ses-a_UNIT1.nii.gz", "sub-01/anat/sub-01_UNIT1.nii.gz"):
        (bids / name).parent.mkdir(parents=True, exist_ok=True)
        (bids / name).touch()
    (bids / "sub-03/ses-a/anat/sub-03_ses-a_inv-1_MP2RAGE.nii.gz").touch()
    (bids / "UNIT1.json").write_text('{"Manufacturer": "of UNIT1"}')
    (bids / "T1w.json").write_text('{"Manufacturer": "of T1w"}')
    index = BidsIndex.open(bids, "session")
    names = {scan.path.name: scan.sidecar["Manufacturer"] for scan in index.scans}
    assert names == {
        "sub-01_T1w.nii.gz": "of T1w",
        "sub-02_ses-x_T1w.nii": "of T1w",
        "sub-03_ses-a_UNIT1.nii.gz": "of UNIT1",
    }
    (finding,) = [finding for finding in index.findings if finding.code == "bids-unit1"]
    assert "1 UNIT1 images of sub-01 lie beside T1w scans" in finding.message


def test_sidecars_are_inherited_and_the_deeper_and_more_specific_wins(bids):
    def sidecar(name, **content):
        (bids / name).write_text(json.dumps(content))

    sidecar("T1w.json", Manufacturer="root", EchoTime=1, Model="root")
    sidecar("ses-x_T1w.json", EchoTime=2)
    sidecar("ses-y_T1w.json", EchoTime=99)
    sidecar("sub-02/sub-02_T1w.json", Model="subject")
    sidecar("sub-02/ses-x/anat/sub-02_ses-x_T1w.json", Manufacturer="scan")
    first, second = BidsIndex.open(bids).scans
    assert first.sidecar == {"Manufacturer": "root", "EchoTime": 1, "Model": "root"}
    assert second.sidecar == {"Manufacturer": "scan", "EchoTime": 2, "Model": "subject"}


def test_a_sidecar_above_the_folder_is_not_inherited(bids):
    (bids.parent / "T1w.json").write_text('{"Manufacturer": "none of ours"}')
    assert BidsIndex.open(bids).scans[0].sidecar == {}


@pytest.mark.parametrize("content", [b"{", b"[1]", b"\xff\xfe", b"[" * 100_000])
def test_a_sidecar_that_is_no_object_is_ignored_and_told_once(bids, content):
    (bids / "T1w.json").write_bytes(content)
    index = BidsIndex.open(bids)
    assert codes(index) == {"bids-bad-sidecar": "warning"}
    assert len(index.findings) == 1
    assert index.scans[0].sidecar == {}


@pytest.mark.skipif("MRHARMONY_DATA" not in os.environ, reason="MRHARMONY_DATA names no real scans")
def test_real_scans_all_have_a_domain():
    index = BidsIndex.open(os.environ["MRHARMONY_DATA"])
    assert index.findings == ()
    assert all(scan.domain for scan in index.scans)


@pytest.mark.parametrize("saved", ["1", "1.0", "1,00"])
def test_labels_that_differ_by_zeros_are_offered_and_none_vanishes_in_silence(tmp_path, saved: str):
    for label in ("01", "02"):
        folder = tmp_path / f"sub-{label}" / "anat"
        folder.mkdir(parents=True)
        (folder / f"sub-{label}_T1w.nii.gz").write_bytes(b"")
        (folder / f"sub-{label}_part-phase_T1w.nii.gz").write_bytes(b"")
    rows = f"{saved}\tA\n{saved.replace('1', '2')}\tNA\n"
    (tmp_path / "participants.tsv").write_text(f"participant_id\tsite\n{rows}")
    index = BidsIndex.open(tmp_path)
    assert [scan.path.name for scan in index.scans] == ["sub-01_T1w.nii.gz", "sub-02_T1w.nii.gz"]
    (finding,) = [finding for finding in index.findings if finding.code == "bids-unlisted"]
    assert "sub-01, sub-02" in finding.message
    assert f"01 and not {saved}" in finding.fix
