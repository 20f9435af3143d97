"""Which scans a model may learn from: those of the half `train`, where a table has a split."""

from pathlib import Path

import pytest

from mrharmony.benchmark.plan import make_plan
from mrharmony.core.findings import MrharmonyError
from mrharmony.jobs.data_sets import DataSet, open_data_set, training_scans
from mrharmony.jobs.derivatives import begin_derivatives

ROWS = {"1": ("a", "train"), "2": ("a", "test"), "3": ("b", "train"), "4": ("b", "train"), "5": ("c", "test")}


def study(folder: Path, split: bool = True) -> Path:
    """Empty scans of three sites; of one nobody is to train on."""
    rows = ["participant_id\tsite\tsplit" if split else "participant_id\tsite"]
    for subject, (site, half) in ROWS.items():
        rows.append(f"sub-{subject}\t{site}" + (f"\t{half}" if split else ""))
        scan = folder / f"sub-{subject}" / "anat" / f"sub-{subject}_T1w.nii.gz"
        scan.parent.mkdir(parents=True)
        scan.touch()
    (folder / "participants.tsv").write_text("\n".join(rows) + "\n")
    return folder


def subjects(data: DataSet, *, most: int | None = None) -> list[str]:
    return [scan.subject for scan in training_scans(data.open(), data.only, most)]


def test_only_the_training_half_is_taken_and_the_rest_counted(tmp_path: Path, capsys):
    data = study(tmp_path)
    assert subjects(DataSet(data)) == ["1", "3", "4"]
    assert "left out 2 of 5 scans, not in the split `train`" in capsys.readouterr().err
    assert subjects(DataSet(data, only=["b"])) == ["3", "4"]
    assert not capsys.readouterr().err
    assert subjects(DataSet(data), most=1) == ["1", "3"]


def test_without_a_split_everybody_is_taken(tmp_path: Path, capsys):
    assert subjects(DataSet(study(tmp_path, split=False))) == ["1", "2", "3", "4", "5"]
    assert not capsys.readouterr().err


def test_chosen_subjects_are_all_that_there_are(tmp_path: Path):
    data = DataSet(study(tmp_path), subjects=["1", "2", "3"])
    assert [scan.subject for scan in data.open().scans] == ["1", "2", "3"]
    assert subjects(data) == ["1", "3"]


def test_a_domain_that_was_asked_for_must_have_somebody(tmp_path: Path):
    data = study(tmp_path)
    with pytest.raises(MrharmonyError, match=r"nobody of c is in the split `train`.*leave this domain out"):
        subjects(DataSet(data, only=["a", "c"]))
    table = data / "participants.tsv"
    table.write_text(table.read_text().replace("train", "test"))
    with pytest.raises(MrharmonyError, match="nobody of a is in the split"):
        subjects(DataSet(data))


@pytest.mark.parametrize("only", [(), ("c",)])
def test_a_domain_that_is_lost_by_zeros_alone_is_told_and_can_be_left_out(tmp_path: Path, only):
    data = study(tmp_path, split=False)
    table = data / "participants.tsv"
    table.write_text(table.read_text().replace("sub-5", "sub-005").replace("sub-4", "sub-04"))
    reason = r"participants.tsv: no scan of c is found, because the label 005 differs from the folder sub-5"
    with pytest.raises(MrharmonyError, match=reason):
        DataSet(data, only=only).open()
    with pytest.raises(MrharmonyError, match=reason):
        make_plan(data, "site", None, only)
    assert subjects(DataSet(data, only=("a", "b"))) == ["1", "2", "3"]


def test_scans_with_contrast_agent_are_prepared_but_never_learned_from(tmp_path: Path, capsys):
    data = study(tmp_path, split=False)
    for subject in ("1", "2"):
        (data / f"sub-{subject}/anat/sub-{subject}_ce-gadolinium_T1w.nii.gz").touch()
    assert subjects(DataSet(data)) == ["1", "2", "3", "4", "5"]
    assert "2 scans with contrast agent (ce-) are left out" in capsys.readouterr().err
    assert len(open_data_set(data, "site").scans) == 7
    only_agent = data / "sub-5/anat"
    (only_agent / "sub-5_T1w.nii.gz").rename(only_agent / "sub-5_ce-gadolinium_T1w.nii.gz")
    with pytest.raises(MrharmonyError, match=r"c: no such domain here. Choose from: a, b"):
        subjects(DataSet(data, only=["c"]))


def test_tables_of_sessions_go_with_the_derivatives_and_absent_content_does_not(tmp_path: Path):
    data = study(tmp_path / "in", split=False)
    (data / "sub-1/sub-1_sessions.tsv").write_text("session_id\tsite\nses-1\tz\n")
    (data / "participants.json").write_text("/annex/objects/MD5E-s1--a.json\n")
    begin_derivatives(open_data_set(data, "site"), tmp_path / "out", "name")
    tables = sorted(
        path.relative_to(tmp_path / "out").as_posix()
        for path in (tmp_path / "out").rglob("*.*")
        if not path.name.startswith((".", "README", "descriptions", "dataset"))
    )
    assert tables == ["participants.tsv", "sub-1/sub-1_sessions.tsv"]
