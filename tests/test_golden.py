"""Every method on one coarse head gives what it gave: compact figures of its output, to a thousandth.

Bits depend on the machine; `tests/golden_record.py` compares them between two versions of the code.
"""

import csv
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from mrharmony.core.sealed import SEAL, write_sealed

GOLDEN = Path(__file__).with_name("golden.csv")
FITTED = (
    *("none", "zscore", "whitestripe", "fcm", "kde", "lsq", "nyul", "histogram", "n4-histogram"),
    *("population", "regional", "regional-scan", "spectrum", "combat", "cyclegan"),
)
PERCENTILES = (1, 25, 50, 75, 99)
TINY_CYCLEGAN = "{channels: 4, blocks: 0, discriminator_channels: 4, steps: 3, batch: 1}"
TINY_TRANSLATION = "{strength: 0.2, num_inference_steps: 5}"


def test_every_method_gives_what_it_gave(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)  # no pool of workers
    scan = _study(run, tmp_path)
    _fit(run, tmp_path)
    made = {}
    for name, options in _ways(tmp_path):
        output = tmp_path / "outputs" / f"{name}.nii.gz"
        status, _, errors = run(
            *("harmonize", scan, "--prepared", tmp_path / "prepared", "--force", "--output", output, *options)
        )
        assert status == 0, errors
        made[name] = _figures(output)
    fresh = tmp_path / "golden.csv"
    _write(fresh, made)
    golden = _read(GOLDEN)
    assert made.keys() == golden.keys()
    differing = {name: (golden[name], made[name]) for name in golden if not _alike(golden[name], made[name])}
    assert not differing, f"if this is meant, copy {fresh} to {GOLDEN}"


def _study(run, folder: Path) -> Path:
    """Make two sites with two scans each of one head; returns the first scan. One preparation serves all."""
    simulated = ("--subjects", 1, "--scanners", "mprage-3t", "--zoom", 4, "--seed", 1)
    assert run("simulate", folder / "virtual", *simulated)[0] == 0
    (virtual,) = (folder / "virtual").glob("sub-*/ses-*/anat/*_T1w.nii.gz")
    first = folder / "study" / "sub-a1" / "anat" / "sub-a1_T1w.nii.gz"
    first.parent.mkdir(parents=True)
    shutil.copy(virtual, first)
    (folder / "study" / "participants.tsv").write_text(
        "participant_id\tsite\nsub-a1\tA\nsub-a2\tA\nsub-b1\tB\nsub-b2\tB\n"
    )
    _put_mask(first, folder / "prepared")
    assert run("prepare", folder / "study", folder / "prepared", "--workers", 1)[0] == 0
    for number, (label, power) in enumerate([("a2", 1.05), ("b1", 0.7), ("b2", 0.75)]):
        _add_scan(folder, first, label, power, np.random.default_rng(number))
    return first


def _put_mask(scan: Path, prepared: Path) -> None:
    """Put the mask of a virtual head in place, which saves the search for its brain."""
    image = nib.load(scan)
    mask = prepared / "sub-a1" / "anat" / "sub-a1_desc-brain_mask.nii.gz"
    mask.parent.mkdir(parents=True)
    nib.save(nib.Nifti1Image((image.get_fdata() > 0).astype(np.uint8), image.affine), mask)


def _add_scan(folder: Path, first: Path, label: str, power: float, rng: np.random.Generator) -> None:
    """Add a scan of the same head in another contrast, with the first one's preparation."""
    image = nib.load(first)
    voxels = image.get_fdata() / image.get_fdata().max()
    changed = voxels**power * rng.normal(1, 0.01, voxels.shape)
    scan = folder / "study" / f"sub-{label}" / "anat" / f"sub-{label}_T1w.nii.gz"
    scan.parent.mkdir(parents=True)
    nib.save(nib.Nifti1Image((1000 * changed).astype(np.float32), image.affine), scan)
    old, new = (hashlib.sha256(path.read_bytes()).hexdigest() for path in (first, scan))
    for file in (folder / "prepared" / "sub-a1" / "anat").iterdir():
        copy = folder / "prepared" / f"sub-{label}" / "anat" / file.name.replace("sub-a1", f"sub-{label}")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, copy)
        if copy.suffix == ".json":
            record = json.loads(copy.read_text().replace(old, new))
            record.pop(SEAL, None)
            write_sealed(copy, copy.name, record)


def _fit(run, folder: Path) -> None:
    (folder / "cyclegan.yaml").write_text(TINY_CYCLEGAN)
    for method in FITTED:
        pair = ("--pair", "A", "B", "--preset", folder / "cyclegan.yaml") if method == "cyclegan" else ()
        fitted = ("--prepared", folder / "prepared", "--output", folder / "fitted", "--method", method, *pair)
        status, _, errors = run("train", folder / "study", *fitted)
        assert status == 0, errors


def _ways(folder: Path) -> Iterator[tuple[str, tuple[object, ...]]]:
    """Yield the name and the options of each call of `harmonize`."""
    (folder / "img2img.yaml").write_text(TINY_TRANSLATION)
    for method in FITTED:
        model = ("--model", folder / "fitted", "--method", method)
        yield f"fitted-{method}", (*model, "--from", "A", "--to", "B")
    yield "fitted-nyul-unknown", ("--model", folder / "fitted", "--method", "nyul", "--to", "B")
    yield "histogram-head", ("--to", "LA", "--method", "histogram", "--extent", "head")
    yield "diffusion-from", ("--from", "mprage-3t", "--to", "NSK")
    yield "diffusion-detail", ("--to", "NSK", "--detail")
    yield "diffusion", ("--to", "NSK", "--method", "diffusion")
    translation = ("--translation", folder / "img2img.yaml")
    yield "img2img", ("--to", "NSK", "--method", "img2img", *translation)


def _figures(output: Path) -> dict[str, float]:
    """Return what the output and its sidecar come down to."""
    voxels = nib.load(output).get_fdata()
    brain = voxels[voxels != 0]
    percentiles = zip(PERCENTILES, np.percentile(brain, PERCENTILES), strict=True)
    drift = json.loads(output.with_name(output.name.replace(".nii.gz", ".json")).read_text())["Drift"]
    return {
        "mean": float(brain.mean()),
        "sd": float(brain.std()),
        **{f"p{percent}": float(value) for percent, value in percentiles},
        "edge_correlation": drift["edge_correlation"],
        "mean_change": drift["mean_change"],
    }


def _alike(golden: dict[str, float], made: dict[str, float]) -> bool:
    return made.keys() == golden.keys() and made == pytest.approx(golden, rel=1e-3, abs=1e-4)


def _write(file: Path, rows: dict[str, dict[str, float]]) -> None:
    with file.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["way", *next(iter(rows.values()))])
        for name, row in rows.items():
            writer.writerow([name, *(f"{value:.6g}" for value in row.values())])


def _read(file: Path) -> dict[str, dict[str, float]]:
    with file.open(newline="") as stream:
        return {row.pop("way"): {key: float(row[key]) for key in row} for row in csv.DictReader(stream)}
