"""Golden record: what the commands leave of fixed virtual heads, to compare two versions of the code.

python tests/golden_record.py record WORK OUT.json [--inputs INPUTS]
python tests/golden_record.py compare A.json B.json

`record` simulates a small cohort with a phantom on an anisotropic, oblique grid in PSR order, prepares it,
fits every method, trains tiny networks, and harmonizes with every method. Each stage starts from INPUTS
(WORK/inputs if not given). What is missing there is put there once, so two versions of the code get the same
scans, preparations and models. What each version makes itself lies in WORK/fresh; its record is `fits`.

`compare` lists every difference to the bit and ends with status 1 if there is any. A sentence with other
words and the same numbers is listed, but does not count. Only the command line and files are used, so modules
may move.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
from nibabel.processing import resample_from_to
from numpy.typing import NDArray
from safetensors.numpy import load_file

RENAMED = {"Posture": "RigidToTemplate"}  # names in A -> names in B, of whole parts of a key
RESULT = "_desc-harmonized_T1w.nii.gz"
LEFT_OUT = re.compile(  # versions, places, times, and hashes of files that hold such
    r"Versions|GeneratedBy|ModelSHA256|Preparation|ProgramVersion|Sources|SHA256|MaskSHA256|BiasFieldSHA256"
    r"|scan|seconds|core_minutes"
)
SENTENCES = re.compile(r"(^|\.)(message|fix|reason|Description|VerdictReasons|remark)(\.\d+)?$")
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")

SIMPLE = (
    *(
        "none",
        "zscore",
        "whitestripe",
        "fcm",
        "kde",
        "lsq",
        "nyul",
        "histogram",
        "n4-histogram",
        "population",
    ),
    *("regional", "regional-scan", "spectrum", "combat", "diffusion"),
)
SHIPPED = ("none", "histogram", "population", "regional", "regional-scan", "diffusion")
SETTINGS = {
    "cyclegan.yaml": "{channels: 4, blocks: 0, discriminator_channels: 4, steps: 3}",
    "img2img.yaml": "{strength: 0.2, num_inference_steps: 5}",
    "latent.yaml": """
autoencoder: {channels: [8, 16], latent_channels: 2}
autoencoder_stage: {steps: 3, batch: 2}
denoiser: {channels: [32, 32], token_size: 8}
denoiser_stage: {steps: 3, batch: 2}
""",
}
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1",
}
SITES = ("--domain", "mprage3t", "--domain", "spgr15t")
Flat = dict[str, Any]


class Head(NamedTuple):
    """A scan to harmonize: where it comes from and goes to, in the fitted models and in the shipped one."""

    name: str
    session: str
    fitted: tuple[str, str]
    shipped: tuple[str, str]


HEADS = (
    Head("sub-001", "mprage3t", ("mprage3t", "spgr15t"), ("mprage-3t", "NSK")),
    Head("sub-002", "spgr15t", ("spgr15t", "mprage3t"), ("spgr-1.5t", "LA")),
    Head("sub-003", "psr", ("mprage3t", "spgr15t"), ("mprage-3t", "spgr-1.5t")),
)


def main() -> None:
    """Run the command that the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    recording = commands.add_parser("record")
    recording.add_argument("work", type=Path)
    recording.add_argument("out", type=Path)
    recording.add_argument("--inputs", type=Path)
    comparing = commands.add_parser("compare")
    comparing.add_argument("a", type=Path)
    comparing.add_argument("b", type=Path)
    asked = parser.parse_args()
    if asked.command == "record":
        if not ONE_THREAD.items() <= os.environ.items():  # the number of threads decides the last bits
            os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ONE_THREAD})
        record(asked.work.resolve(), asked.out, (asked.inputs or asked.work / "inputs").resolve())
        return
    a, b = (json.loads(file.read_text("utf-8")) for file in (asked.a, asked.b))
    sys.exit(compare(a, b))


def record(work: Path, out: Path, inputs: Path) -> None:
    """Make everything and write what came out."""
    fresh, outputs = work / "fresh", work / "outputs"
    for folder in (fresh, outputs):
        shutil.rmtree(folder, ignore_errors=True)
    inputs.mkdir(parents=True, exist_ok=True)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # one core: no pool of workers
    for name, text in SETTINGS.items():
        (inputs / name).write_text(text, "utf-8")
    fit(fresh, inputs)
    failed = harmonize(inputs, outputs)
    result: dict[str, Any] = {
        "outputs_folder": str(outputs),
        "outputs": {**contents(outputs, inputs / "prepared"), **failed},
        "fits": contents(fresh, None),
    }
    out.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n", "utf-8")
    print(f"{out}: {len(result['outputs'])} outputs, {len(result['fits'])} files of fits")


def fit(fresh: Path, inputs: Path) -> None:
    """Simulate, prepare, fit and train, each stage from the inputs; what the inputs lack is copied there."""
    cohort, prepared = inputs / "cohort", inputs / "prepared"
    of_cohort = (cohort, "--prepared", prepared, "--domain-column", "session", "--output")
    scanners = ("--scanners", "mprage-3t,spgr-1.5t")
    must("simulate", fresh / "cohort", "--subjects", 2, *scanners, "--zoom", 2.5, "--seed", 5)
    add_phantom(fresh / "cohort")
    keep(fresh / "cohort", cohort)
    must("prepare", cohort, fresh / "prepared", "--domain-column", "session", "--volume-corrected")
    keep(fresh / "prepared", prepared)
    for method in SIMPLE:
        must("train", *of_cohort, fresh / "fitted", "--method", method, *SITES)
    gan = ("--method", "cyclegan", "--pair", "mprage3t", "spgr15t", "--preset", inputs / "cyclegan.yaml")
    must("train", *of_cohort, fresh / "fitted", *gan)
    keep(fresh / "fitted", inputs / "fitted")
    latent = ("--method", "img2img", "--preset", inputs / "latent.yaml", "--device", "cpu", *SITES)
    must("train", *of_cohort, fresh / "latent", *latent)
    few = ("--method", "img2img", "--steps", 2, "--device", "cpu")
    must("adapt", *of_cohort, fresh / "adapted", "--domain", "psr", *few)
    keep(fresh / "latent", inputs / "latent")
    keep(fresh / "adapted", inputs / "adapted")


def add_phantom(cohort: Path) -> None:
    """Add a head on an anisotropic, oblique grid in PSR order, in scaled 16-bit integers."""
    whole = nib.load(next(cohort.glob("sub-002/ses-mprage3t/anat/*_T1w.nii.gz")))
    psr = np.array([[0.0, 0.0, 1.5], [-3.0, 0.0, 0.0], [0.0, 1.5, 0.0]])
    a, b = np.deg2rad([9.0, -6.0])
    pitch = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    yaw = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    shape, affine = (76, 150, 126), np.eye(4)
    affine[:3, :3] = pitch @ yaw @ psr
    middle = whole.affine @ [*(np.array(whole.shape) - 1) / 2, 1]
    affine[:3, 3] = middle[:3] - affine[:3, :3] @ (np.array(shape) - 1) / 2
    voxels = resample_from_to(whole, (shape, affine), order=1).get_fdata()
    noise = np.random.default_rng(17).normal(scale=0.01 * voxels.max(), size=(2, *shape))
    image = nib.Nifti1Image(np.hypot(voxels + noise[0], noise[1]).astype(np.float32), affine)
    image.set_data_dtype(np.int16)
    image.header.set_xyzt_units("mm")
    folder = cohort / "sub-003" / "ses-psr" / "anat"
    folder.mkdir(parents=True)
    nib.save(image, folder / "sub-003_ses-psr_T1w.nii.gz")


def keep(fresh: Path, place: Path) -> None:
    """Copy a folder to the inputs if it is not there."""
    if not place.exists():
        shutil.copytree(fresh, place)


def harmonize(inputs: Path, outputs: Path) -> dict[str, Flat]:
    """Harmonize the heads in every way; returns the ways that failed, by name."""
    failed: dict[str, Flat] = {}
    for name, arguments in ways(inputs):
        status, said = call("harmonize", *arguments, "--force", "--device", "cpu", "--output", outputs / name)
        if status:
            failed[f"{name}/{Path(str(arguments[0])).name}"] = {
                "status": status,
                "reason": said.replace(str(inputs), ""),
            }
            print(f"{name}: status {status}: {said}", file=sys.stderr)
    return failed


def ways(inputs: Path) -> Iterator[tuple[str, tuple[object, ...]]]:
    """Yield the name and the arguments of each call of `harmonize`."""
    fitted, few = inputs / "fitted", ("--translation", inputs / "img2img.yaml")
    for head in HEADS:
        scan, prepared = place(inputs, head)
        for method in (*SIMPLE, "cyclegan"):
            common = (scan, *prepared, "--model", fitted, "--method", method, "--to", head.fitted[1])
            yield f"fitted/{method}/from", (*common, "--from", head.fitted[0])
            if method != "cyclegan":
                yield f"fitted/{method}/unknown", common
        for method in SHIPPED:
            common = (scan, *prepared, "--method", method, "--to", head.shipped[1])
            yield f"shipped/{method}/unknown", common
            if method != "diffusion":  # the slow one: `single_ways`
                yield f"shipped/{method}/from", (*common, "--from", head.shipped[0])
        common = (scan, *prepared, "--to", head.shipped[1])
        yield "shipped/img2img/unknown", (*common, "--method", "img2img", *few)
        yield "shipped/diffusion/detail", (*common, "--detail")
        yield "shipped/diffusion/head", (*common, "--extent", "head")
        yield "shipped/histogram/head", (*common, "--extent", "head", "--method", "histogram")
    yield from single_ways(inputs)


def single_ways(inputs: Path) -> Iterator[tuple[str, tuple[object, ...]]]:
    """Yield what is done with one head only."""
    (scan, prepared), (phantom, _) = place(inputs, HEADS[0]), place(inputs, HEADS[2])
    source, target = HEADS[0].shipped
    common = (scan, *prepared, "--to", target)
    few = ("--method", "img2img", "--translation", inputs / "img2img.yaml")
    yield "shipped/img2img/from-no-lock", (*common, "--from", source, *few, "--no-lock")
    yield "shipped/diffusion/own", (scan, *prepared, "--from", source, "--to", source)
    yield "shipped/diffusion/uncertainty", (*common, "--uncertainty", "--seed", 3)
    locked = ("--method", "cyclegan", "--model", inputs / "fitted", "--lock")
    yield "fitted/cyclegan/lock", (scan, *prepared, *locked, "--from", "mprage3t", "--to", "spgr15t")
    latent = (scan, *prepared, "--model", inputs / "latent")
    yield "latent/img2img/from", (*latent, *few, "--from", "mprage3t", "--to", "spgr15t")
    yield "latent/diffusion/unknown", (*latent, "--to", "spgr15t")
    adapted = (scan, *prepared, "--model", inputs / "adapted", "--to", "psr")
    yield "adapted/img2img/unknown", (*adapted, *few)
    yield "adapted/diffusion/unknown", adapted
    yield "raw/diffusion", (phantom, "--to", "NSK")
    mask = next((inputs / "prepared").rglob("sub-001_ses-mprage3t_desc-brain_mask.nii.gz"))
    yield "raw/masked-regional", (scan, "--to", "NSK", "--mask", mask, "--method", "regional")


def place(inputs: Path, head: Head) -> tuple[Path, tuple[object, ...]]:
    """Return the head's scan, and the option with its preparation."""
    folder = inputs / "cohort" / head.name / f"ses-{head.session}" / "anat"
    return next(folder.glob("*_T1w.nii.gz")), ("--prepared", inputs / "prepared")


def must(*arguments: object) -> None:
    """Run a command that has to succeed."""
    status, said = call(*arguments)
    if status:
        raise SystemExit(f"{' '.join(map(str, arguments))}: ended with status {status}: {said}")


def call(*arguments: object) -> tuple[int, str]:
    """Run a command in this process; returns its status and the last that it said."""
    begin, output, errors = time.perf_counter(), io.StringIO(), io.StringIO()
    sys.argv = ["mrharmony", *map(str, arguments)]
    status = 0
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        try:
            import_module("mrharmony.cli").main()
        except SystemExit as end:
            status = int(end.code or 0)
    print(f"{time.perf_counter() - begin:6.2f} s  {status}  {arguments[0]}  {arguments[-1]}", flush=True)
    return status, errors.getvalue().strip()[-300:]


def contents(folder: Path, prepared: Path | None) -> dict[str, Flat]:
    """Return what the files of a folder hold, by their paths in it."""
    found: dict[str, Flat] = {}
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = file.relative_to(folder).as_posix()
        if ".training/" in name or file.suffix == ".html" or "_desc-preparation_log" in name:
            continue
        if name.endswith(".nii.gz"):
            found[name] = image_record(file, brain_mask(file, prepared) if prepared else None)
        elif file.suffix == ".json":
            found[name] = dict(flat(json.loads(file.read_text("utf-8"))))
        elif file.suffix == ".safetensors":
            found[name] = tensors_record(file)
        else:
            found[name] = {"sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
    return found


def brain_mask(output: Path, prepared: Path) -> Path:
    """Return the mask of the scan that an output was made from."""
    stem = re.sub(r"_desc-[a-z]+_T1w\.nii\.gz$", "", output.name)
    return next(prepared.rglob(f"{stem}_desc-brain_mask.nii.gz"))


def image_record(file: Path, mask: Path | None) -> Flat:
    """Return hashes of an image's voxels and header, and figures inside the mask, or where it is not 0."""
    image = nib.load(file)
    voxels = np.ascontiguousarray(image.dataobj)
    inside = np.asarray(nib.load(mask).dataobj) > 0 if mask else voxels != 0
    return {
        "voxels": hashlib.sha256(voxels.tobytes() + image.affine.tobytes()).hexdigest(),
        "header": hashlib.sha256(image.header.binaryblock).hexdigest(),
        "dtype": str(voxels.dtype),
        "shape": str(voxels.shape),
        **figures(voxels[inside]),
    }


def tensors_record(file: Path) -> Flat:
    """Return the hash and the figures of each tensor."""
    record: Flat = {}
    for name, tensor in load_file(file).items():
        record[f"{name}.sha256"] = hashlib.sha256(tensor.tobytes()).hexdigest()
        record[f"{name}.type"] = f"{tensor.dtype} {tensor.shape}"
        record |= {f"{name}.{key}": value for key, value in figures(tensor).items()}
    return record


def figures(values: NDArray[Any]) -> Flat:
    """Return mean, standard deviation and percentiles."""
    numbers = np.asarray(values, np.float64)
    if not numbers.size:
        return {}
    percentiles = {f"p{p}": float(np.percentile(numbers, p)) for p in (1, 25, 50, 75, 99)}
    return {"mean": float(numbers.mean()), "sd": float(numbers.std()), **percentiles}


def flat(value: object, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of a JSON value by dotted keys, without what is left out."""
    if LEFT_OUT.fullmatch(key.rsplit(".", 1)[-1]):
        return
    if isinstance(value, Mapping | list) and value:
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        for name, part in items:
            yield from flat(part, f"{key}.{name}" if key else str(name))
    else:
        yield key, value


def compare(a: Mapping[str, Any], b: Mapping[str, Any]) -> int:
    """Print what differs between two records; returns 1 if anything does."""
    count = 0
    folders = [Path(record["outputs_folder"]) for record in (a, b)]
    for section in ("outputs", "fits"):
        one, other = a[section], b[section]
        for name in sorted({*one, *other}):
            lines = [*differences(renamed(one.get(name, {})), other.get(name, {}))]
            if section == "outputs" and any(line.startswith("voxels:") for line in lines):
                lines.append(distance(*(folder / name for folder in folders)))
            real = [line for line in lines if not line.startswith("wording:")]
            count += len(real)
            for line in lines:
                print(f"{section} {name}: {line}")
    print(f"{count} differences in {sum(len(a[section]) for section in ('outputs', 'fits'))} files")
    return int(count > 0)


def renamed(record: Flat) -> Flat:
    """Return the record of A under the names that B uses."""
    return {".".join(RENAMED.get(part, part) for part in key.split(".")): record[key] for key in record}


def differences(one: Flat, other: Flat) -> Iterator[str]:
    """Yield a line for each value that is not the same."""
    if not one or not other:
        yield "only in B" if not one else "only in A"
        return
    for key in sorted({*one, *other}):
        a, b = one.get(key, "(missing)"), other.get(key, "(missing)")
        if a == b and type(a) is type(b):
            continue
        if key in one and key in other and SENTENCES.search(key) and numbers_in(a) == numbers_in(b):
            yield f"wording: {key}: {a!r} -> {b!r}"
        elif isinstance(a, int | float) and isinstance(b, int | float):
            yield f"{key}: {a!r} -> {b!r} (by {b - a:.3g})"
        else:
            yield f"{key}: {a!r} -> {b!r}"


def numbers_in(value: object) -> list[str]:
    """Return the numbers that a sentence tells."""
    return NUMBER.findall(str(value))


def distance(one: Path, other: Path) -> str:
    """Return how far two images are apart, where both are still there."""
    if not (one.is_file() and other.is_file()) or one == other:
        return "the images are not both there any more to tell how far they are apart"
    a, b = (np.asarray(nib.load(file).dataobj, np.float64) for file in (one, other))
    if a.shape != b.shape:
        return f"shape {a.shape} -> {b.shape}"
    gap = np.abs(a - b)
    many, most = np.count_nonzero(gap), f"{gap.max():.3g} at most (greatest intensity {a.max():.3g})"
    return f"{many} of {gap.size} voxels differ, by {most}"


if __name__ == "__main__":
    main()
