"""Splits are by subject, complete, and refuse what cannot be judged."""

import pickle
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrharmony.benchmark.folder import BenchmarkFolder
from mrharmony.benchmark.plan import BenchmarkScan, Fold, _cross_validation, make_plan
from mrharmony.benchmark.run import BenchmarkRequest
from mrharmony.core.findings import MrharmonyError


def data_set(root: Path, rows: Sequence[tuple[str, ...]], columns: str = "site", sessions: str = "") -> Path:
    """Write a BIDS folder with images that differ and are none, which are never opened."""
    lines = ["\t".join(("participant_id", *columns.split())), *("\t".join(row) for row in rows)]
    root.mkdir(parents=True, exist_ok=True)
    (root / "participants.tsv").write_text("\n".join(lines) + "\n", "utf-8")
    for subject, *_ in rows:
        for session in sessions.split() or [""]:
            folder = root / subject / (f"ses-{session}" if session else "") / "anat"
            folder.mkdir(parents=True)
            stem = f"{subject}_ses-{session}" if session else subject
            (folder / f"{stem}_T1w.nii.gz").write_text(stem)
    return root


def scans(counts: dict[str, int]) -> tuple[BenchmarkScan, ...]:
    return tuple(
        BenchmarkScan(Path(f"{site}{n}"), f"{site}{n}", site, {})
        for site, count in counts.items()
        for n in range(count)
    )


def test_copies_of_a_head_on_two_scanners_are_refused_and_those_of_two_people_told(tmp_path: Path, capsys):
    rows = [(f"sub-{n}", "a" if n < 3 else "b") for n in range(6)]
    root = data_set(tmp_path / "study", rows, sessions="a b")
    images = sorted(root.rglob("*_T1w.nii.gz"))
    images[2].write_bytes(images[0].read_bytes())
    make_plan(root, "session", None)
    assert "1 of 12 scans are copies of others, as in sub-0 and sub-1" in capsys.readouterr().err
    images[1].write_bytes(images[0].read_bytes())
    with pytest.raises(MrharmonyError, match=r"sub-0_ses-b_T1w.* is a copy of .*sub-0_ses-a_T1w"):
        make_plan(root, "session", None)


@given(st.dictionaries(st.sampled_from(["a", "b", "c"]), st.integers(4, 12), min_size=2))
def test_every_subject_is_tested_once_and_never_in_its_own_training(counts: dict[str, int]):
    everyone = scans(counts)
    folds = _cross_validation(Path("data"), everyone)
    tested = [scan.subject for fold in folds for scan in fold.testing]
    assert sorted(tested) == sorted(scan.subject for scan in everyone)
    for fold in folds:
        assert not {s.subject for s in fold.training} & {s.subject for s in fold.testing}
        assert set(fold.known) == set(counts)


def virtual(root: Path) -> Path:
    """Give every subject of a data set the truth that marks a virtual head."""
    for subject in root.glob("sub-*"):
        truth = root / "derivatives" / "truth" / subject.name / "anat" / f"{subject.name}_dseg.nii.gz"
        truth.parent.mkdir(parents=True)
        truth.touch()
    return root


def test_a_travelling_subject_stays_on_one_side(tmp_path: Path):
    rows = [(f"sub-{n}", "x") for n in range(6)]
    plan = make_plan(data_set(tmp_path, rows, sessions="a b"), "session", None)
    for fold in plan.folds:
        assert not {s.subject for s in fold.training} & {s.subject for s in fold.testing}


def test_only_virtual_heads_are_a_truth_for_each_other(tmp_path: Path):
    root = data_set(tmp_path, [(f"sub-{n}", "x") for n in range(6)], sessions="a b")
    assert not make_plan(root, "session", None).travelling
    assert make_plan(virtual(root), "session", None).travelling


def test_a_plan_reaches_another_process_as_it_is(tmp_path: Path):
    plan = make_plan(data_set(tmp_path, [(f"sub-{n}", "ab"[n % 2]) for n in range(8)]), "site", None)
    assert list(plan.scans) == sorted(scan.key for scan in plan.testing)
    received = pickle.loads(pickle.dumps(plan))  # noqa: S301 - our own bytes
    assert received == plan
    assert received.evaluated == plan.evaluated


def test_a_given_split_is_kept(tmp_path: Path):
    rows = [(f"sub-{n}", "ab"[n % 2], "test" if n > 3 else "train") for n in range(6)]
    plan = make_plan(data_set(tmp_path, rows, "site split"), "site", "b")
    (fold,) = plan.folds
    assert {scan.subject for scan in fold.testing} == {"4", "5"}
    assert plan.target == "b"
    assert not plan.travelling


def test_the_target_is_the_domain_with_most_training_scans(tmp_path: Path):
    rows = [(f"sub-{n}", "big" if n < 8 else "small") for n in range(12)]
    assert make_plan(data_set(tmp_path, rows), "site", None).target == "big"


def test_scans_go_in_all_directions_between_known_domains_and_to_themselves(tmp_path: Path):
    rows = [(f"sub-{n}", "train" if n < 4 else "test") for n in range(6)]
    plan = make_plan(virtual(data_set(tmp_path, rows, "split", sessions="a b c")), "session", "a")
    (fold,) = plan.folds
    scan = next(scan for scan in fold.testing if scan.domain == "b")
    assert plan.targets(fold, scan) == ("a", "b", "c")


def test_without_a_truth_scans_go_to_the_target_and_to_themselves(tmp_path: Path):
    plan = make_plan(data_set(tmp_path, [(f"sub-{n}", "abc"[n % 3]) for n in range(12)]), "site", "a")
    fold = plan.folds[0]
    scan = next(scan for scan in fold.testing if scan.domain == "b")
    assert plan.targets(fold, scan) == ("a", "b")


def test_where_there_are_new_domains_only_scans_from_there_are_judged(tmp_path: Path):
    root = data_set(
        tmp_path, [(f"sub-{n}", "train" if n < 4 else "test") for n in range(6)], "split", sessions="a b new"
    )
    for number in range(4):
        (root / f"sub-{number}/ses-new/anat/sub-{number}_ses-new_T1w.nii.gz").unlink()
    plan = make_plan(virtual(root), "session", "a")
    (fold,) = plan.folds
    assert plan.new == ("new",)
    assert {scan.domain for scan in plan.evaluated} == {scan.domain for scan in plan.homes} == {"new"}
    assert plan.targets(fold, plan.evaluated[0]) == ("a", "b")


def test_a_travelling_subjects_home_is_its_own_site(tmp_path: Path):
    rows = [(f"sub-{n}", "A.1" if n % 2 else "b", "train" if n < 4 else "test") for n in range(6)]
    plan = make_plan(data_set(tmp_path, rows, "site split", sessions="a1 b"), "session", "b")
    assert {(scan.subject, scan.domain) for scan in plan.homes} == {("4", "b"), ("5", "a1")}


def test_both_folds_of_a_fold_are_told_by_their_domains():
    training, testing = scans({"a": 2, "b": 2}), scans({"a": 1, "c": 1})
    fold = Fold(training, testing)
    assert fold.known == ("a", "b")
    assert fold.new == ("c",)
    assert {scan.domain for scan in fold.training_of("a")} == {"a"}


@pytest.mark.parametrize(
    ("rows", "columns", "options", "sentence"),
    [
        ([(f"sub-{n}", "a") for n in range(6)], "site", {}, "training scans of two domains"),
        ([("sub-1", "a"), ("sub-2", "b")], "site", {"only": ("a", "b")}, "to test. Choose domains of 3"),
        ([(f"sub-{n}", "ab"[n % 2]) for n in range(8)], "site", {"target": "z"}, "z: no training scans"),
        ([(f"sub-{n}", "ab"[n % 2]) for n in range(8)], "site", {"only": ("z",)}, "z: no such domain"),
        ([("sub-1", "a", "train"), ("sub-2", "b", "n/a")], "site split", {}, "neither train nor test"),
        ([("sub-1", "a", "train"), ("sub-2", "b", "train")], "site split", {}, "nobody is in the split"),
    ],
)
def test_what_cannot_be_judged_is_refused_in_one_sentence(
    tmp_path: Path, rows: list[tuple[str, ...]], columns: str, options: dict[str, str], sentence: str
):
    root = data_set(tmp_path, rows, columns)
    with pytest.raises(MrharmonyError, match=sentence):
        make_plan(root, "site", options.get("target"), options.get("only", ()))


def test_two_scans_of_a_subject_in_one_domain_are_refused(tmp_path: Path):
    root = data_set(tmp_path, [(f"sub-{n}", "ab"[n % 2]) for n in range(8)], sessions="1 2")
    with pytest.raises(MrharmonyError, match="several scans in the domain"):
        make_plan(root, "site", None)


def test_domains_that_name_folders_or_differ_by_case_stay_within_the_benchmark(tmp_path: Path):
    rows = [(f"sub-{n}", ("a/../../OUTSIDE", "b")[n % 2]) for n in range(8)]
    plan = make_plan(data_set(tmp_path / "in", rows), "site", None)
    folder = BenchmarkFolder(tmp_path / "out")
    for scan in plan.scans.values():
        folder.write_scores("none", scan, {"of": scan.key})
    assert len(list((tmp_path / "out" / "work" / "none").iterdir())) == 8
    assert {path.name for path in tmp_path.iterdir()} == {"in", "out"}
    assert [folder.read_scores("none", scan) for scan in plan.scans.values()] == [
        {"of": key} for key in plan.scans
    ]
    root = data_set(tmp_path / "two", [(f"sub-{n}", "x") for n in range(6)], sessions="A b")
    (root / "sub-1/ses-a/anat").mkdir(parents=True)
    (root / "sub-1/ses-a/anat/sub-1_ses-a_T1w.nii.gz").touch()
    with pytest.raises(MrharmonyError, match=r"several scans in the domain a, .*case makes no difference"):
        make_plan(root, "session", None)


def test_a_scan_whose_content_is_not_here_ends_no_benchmark_at_its_start(tmp_path: Path):
    root = data_set(tmp_path, [(f"sub-{n}", "ab"[n % 2]) for n in range(8)])
    scan = root / "sub-1/anat/sub-1_T1w.nii.gz"
    scan.unlink()
    scan.symlink_to("../.git/annex/objects/gone")
    request = BenchmarkRequest(root, tmp_path / "out", "mrharmony benchmark")
    before = request.settings(make_plan(root, "site", None))
    (root / "sub-2/anat/sub-2_T1w.nii.gz").write_bytes(b"another size")
    assert request.settings(make_plan(root, "site", None))["data set"] != before["data set"]
