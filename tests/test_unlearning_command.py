"""`mrharmony evaluate unlearning` on files: a complete record, a table in words, a sentence for mistakes."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from helpers.commands import sentences
from mrharmony.evaluate.unlearning import UnlearningData, UnlearningStudy, unlearning_study
from mrharmony.evaluate.unlearning_network import UnlearningSettings
from mrharmony.jobs import unlearning

BY_SESSION = ("--domain-column", "session", "--workers", "1")
PEOPLE = 20
SPLITS = ["train"] * 14 + ["test"] * 6


@pytest.fixture(scope="module")
def study(two_sites: Path) -> Path:
    return two_sites


@pytest.fixture(scope="module")
def untouched(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same table with scans that must not be read."""
    folder = tmp_path_factory.mktemp("table")
    for scan in study.glob("sub-*/ses-*/anat/*_T1w.nii.gz"):
        copy = folder / scan.relative_to(study)
        copy.parent.mkdir(parents=True)
        copy.write_bytes(b"never read")
    (folder / "participants.tsv").write_text((study / "participants.tsv").read_text())
    return folder


def numbers(value: object) -> list[float]:
    if isinstance(value, dict):
        return [number for item in value.values() for number in numbers(item)]
    if isinstance(value, list):
        return [number for item in value for number in numbers(item)]
    return [float(value)] if isinstance(value, int | float) else []


def test_the_record_is_complete_and_finite_and_a_second_call_is_not_prepared_again(
    run, study: Path, tmp_path: Path, monkeypatch
):
    found = []

    def study_once(data: UnlearningData, settings: UnlearningSettings) -> UnlearningStudy:
        """Train briefly, in the first call alone: the second sees the same data, which is asked of it."""
        brief = settings.model_copy(update={"pretraining_steps": 10, "unlearning_steps": 10})
        found.append((data, found[0][1] if found else unlearning_study(data, brief)))
        return found[0][1]

    monkeypatch.setattr(unlearning, "unlearning_study", study_once)
    output, work = tmp_path / "result.json", tmp_path / "work"
    arguments = (study, *BY_SESSION, "--factor", "ventricle_scale", "--log", "--work", work)
    status, text, errors = run("evaluate", "unlearning", *arguments, "--output", output, "--json")
    assert status == 0, errors
    record = json.loads(text)
    assert record == json.loads(output.read_text())
    assert record["scans"] == {"mprage3t": 6, "spgr15t": 6}
    assert (record["split"], record["held_out_scans"], record["chance"]) == ("participants.tsv", 6, 0.5)
    assert record["before"]["mean"].keys() == record["after"]["mean"].keys()
    assert {"task r2", "site, linear probe retrained", "site, frozen site head"} <= set(
        record["after"]["mean"]
    )
    assert all(math.isfinite(number) for number in numbers(record))
    for brain in work.glob("*.npz"):
        assert brain.stat().st_size > 0
    times = {brain: brain.stat().st_mtime_ns for brain in work.glob("*.npz")}
    status, table, _ = run("evaluate", "unlearning", *arguments)
    assert status == 0
    assert "features, not images" in table
    assert "frozen site head misleads" in table
    assert {brain: brain.stat().st_mtime_ns for brain in work.glob("*.npz")} == times
    first, second = (data for data, _ in found)
    assert np.array_equal(first.pooled, second.pooled)


@pytest.mark.parametrize("content", ["participant_id\tsite\n", '{"factor": "age"}'])
def test_a_file_of_somebody_else_is_not_replaced(run, study: Path, tmp_path: Path, content: str):
    output = tmp_path / "participants.tsv"
    output.write_text(content)
    status, _, errors = run("evaluate", "unlearning", study, *BY_SESSION, "--output", output)
    assert (status, errors) == (
        2,
        f"mrharmony: {output}: is no earlier result of this command. Name another file.\n",
    )
    assert output.read_text() == content


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--factor", "shoe_size"), "no column shoe_size"),
        (("--factor", "site", "--log"), "site holds words"),
        (("--factor", "lesions_ml", "--log"), "no logarithm"),
        (("--domain", "mprage3t"), "one site"),
        (("--domain", "elsewhere"), "elsewhere: no such domain here. Choose from: mprage3t"),
        (("--factor", "mixed"), "mixed must hold numbers, not 'inf'"),
        (("--factor", "few"), "known for 2 training subjects, 6 are needed"),
    ],
)
def test_table_and_splits_are_checked_before_scans_are_prepared(
    options: tuple[str, ...], message: str, run, untouched: Path
):
    table = untouched / "participants.tsv"
    head, *rows = table.read_text().splitlines()
    if "few" not in head:
        values = ["1", "2", *["n/a"] * (len(rows) - 2)]
        mixed = ["inf", *map(str, range(1, len(rows)))]
        lines = [f"{head}\tfew\tmixed", *map("\t".join, zip(rows, values, mixed, strict=True))]
        table.write_text("\n".join(lines) + "\n")
    status, _, errors = run("evaluate", "unlearning", untouched, *BY_SESSION, *options)
    assert status == 2
    assert message in errors
    assert len(sentences(errors)) == 1


def people_of_two_sites(folder: Path, contents: Sequence[int], splits: Sequence[str] = SPLITS) -> Path:
    """Scans that cannot be prepared; those of equal contents are copies."""
    rows = ["participant_id\tsite\tsplit\tage"]
    for number, (content, split) in enumerate(zip(contents, splits, strict=True)):
        scan = folder / f"sub-{number:02d}" / "anat" / f"sub-{number:02d}_T1w.nii.gz"
        scan.parent.mkdir(parents=True)
        scan.write_text(f"{content}")
        rows.append(f"sub-{number:02d}\t{'ab'[number % 2]}\t{split}\t{20 + number}")
    (folder / "participants.tsv").write_text("\n".join(rows) + "\n")
    return folder


def test_a_copy_on_both_sides_of_the_split_is_refused_before_scans_are_prepared(run, tmp_path: Path):
    folder = people_of_two_sites(tmp_path, [*range(PEOPLE - 1), 3])
    status, _, errors = run("evaluate", "unlearning", folder, "--workers", "1")
    (sentence,) = sentences(errors)
    assert status == 2
    assert "sub-19_T1w.nii.gz: is held out, and a copy of " in sentence
    assert "sub-03_T1w.nii.gz, which is trained on. Give sub-03 and sub-19 one split, or " in sentence


@pytest.mark.parametrize("splits", [SPLITS, ["n/a"] * PEOPLE])
def test_other_copies_are_told(run, tmp_path: Path, splits: list[str]):
    folder = people_of_two_sites(tmp_path, [0, 0, *range(2, PEOPLE)], splits)
    _, _, errors = run("evaluate", "unlearning", folder, "--workers", "1")
    told = f"{folder}: 1 of 20 scans are copies of others, as in sub-00 and sub-01. Each counts"
    assert sentences(errors)[0].startswith(told)


def test_the_site_itself_is_no_factor(run, tmp_path: Path):
    folder = people_of_two_sites(tmp_path, range(PEOPLE))
    status, _, errors = run("evaluate", "unlearning", folder, "--factor", "site", "--workers", "1")
    (sentence,) = sentences(errors)
    assert (status, "The factor is the same in all scans of each site, so that" in sentence) == (2, True)


def test_the_help_says_that_no_images_are_made(run):
    status, text, _ = run("evaluate", "unlearning", "--help")
    assert status == 0
    assert "not images" in " ".join(text.split())
