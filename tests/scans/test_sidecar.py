"""The JSON beside a harmonized scan: written and read by one model."""

import json
from pathlib import Path

import pytest

from mrharmony.core.findings import MrharmonyError
from mrharmony.scans.sidecar import SCHEMA_VERSION, HarmonizedSidecar, read_harmonized, read_uncertainty

# As `mrharmony bids --uncertainty` leaves it.
SIDECAR = """{
  "SchemaVersion": 1,
  "Description": "T1-weighted scan harmonized by mrharmony; research use only.",
  "Source": "spgr-1.5t",
  "NearestDomain": "tfe-3t",
  "SourceDistance": 0.05695221200585365,
  "Target": "NSK",
  "Method": "diffusion",
  "Model": "compact",
  "ModelSHA256": "7b47a81d19880d8c36403f94d7e9ec031be4837b223b08fbe9f3758688283239",
  "Seed": 0,
  "Sampling": null,
  "DetailTransfer": false,
  "GeneratedBy": [
    {
      "Name": "mrharmony",
      "Version": "0.1.0"
    }
  ],
  "Versions": {
    "torch": "2.13.0+cpu",
    "diffusers": "0.42.1",
    "nibabel": "5.4.2",
    "antspyx": "0.6.3",
    "deepbet": "1.0.2",
    "numpy": "2.3.5",
    "scipy": "1.15.3"
  },
  "SkullStripped": true,
  "Extent": "brain",
  "Detail": null,
  "IntensityScale": 770.3340454101562,
  "Sources": [
    "../../../../cohort/sub-001/ses-spgr15t/anat/sub-001_ses-spgr15t_T1w.nii.gz"
  ],
  "SourceSHA256": "1e76b536936dff6db610c9a750884a75ddf6f2187b297b855c20271fecc28c27",
  "Preparation": null,
  "ProgramVersion": "0.1.0/6",
  "SpatialReference": "orig",
  "Drift": {
    "edge_correlation": 0.970425272303925,
    "new_edge_share": 0.0,
    "rank_correlation": 0.9984382485513592,
    "csf_drift": -0.0020581425263699327,
    "grey_drift": 0.0029251645405052873,
    "white_drift": -0.0031093836757356552,
    "clipped_share": 0.0,
    "new_structure": 0.018566812299387035,
    "lost_structure": 0.01921766945129281,
    "mean_change": 0.07586071640253067,
    "target_distance": 0.023367657236435378
  },
  "Verdict": "pass",
  "VerdictReasons": [],
  "Findings": [],
  "MeanUncertainty": 1.3785980939865112
}
"""


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "sub-001_desc-harmonized_T1w.json"
    path.write_text(SIDECAR, "utf-8")
    return path


def changed(path: Path, **keys: object) -> Path:
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | keys), "utf-8")
    return path


def test_a_sidecar_is_read_whole(written: Path):
    note = read_harmonized(written)
    assert note
    assert (note.schema_version, note.source, note.target) == (1, "spgr-1.5t", "NSK")
    assert note.method == "diffusion"
    assert (note.nearest_domain, note.verdict, note.seed) == ("tfe-3t", "pass", 0)
    assert note.generated_by[0].version == "0.1.0"
    assert note.drift["edge_correlation"] == 0.970425272303925
    record = json.loads(json.dumps(note.record()))
    assert {key: record[key] for key in json.loads(SIDECAR)} == json.loads(SIDECAR)


def test_what_is_written_is_read_back_with_its_schema_version(tmp_path: Path):
    note = HarmonizedSidecar(
        schema_version=SCHEMA_VERSION,
        target="NSK",
        method="none",
        intensity_scale=300.0,
        sources=("sub-1_T1w.nii.gz",),
        drift={"mean_change": 0.1, "target_distance": None},
        verdict="warn",
        findings=({"level": "warning", "code": "c", "message": "m", "fix": "f"},),
    )
    path = tmp_path / "note.json"
    path.write_text(json.dumps(note.record()), "utf-8")
    assert json.loads(path.read_text("utf-8"))["SchemaVersion"] == SCHEMA_VERSION
    assert "MeanUncertainty" not in json.loads(path.read_text("utf-8"))
    assert read_harmonized(path) == note


def test_keys_of_later_releases_and_of_other_programs_are_ignored(written: Path):
    before = read_harmonized(written)
    assert read_harmonized(changed(written, EchoTime=0.003, NotYetKnown=[1])) == before


@pytest.mark.parametrize(
    ("key", "content"),
    [
        ("SchemaVersion", 0),
        ("IntensityScale", "bright"),
        ("IntensityScale", -1),
        ("IntensityScale", 1e40),
        ("MeanUncertainty", float("nan")),
        ("Drift", [1, 2]),
        ("Sources", "sub-001_T1w.nii.gz"),
        ("Seed", None),
        ("Target", {"name": "NSK"}),
    ],
)
def test_a_wrong_type_is_one_sentence_that_names_file_and_key(written: Path, key: str, content: object):
    with pytest.raises(MrharmonyError) as fault:
        read_harmonized(changed(written, **{key: content}))
    assert str(fault.value).startswith(f"{written}: {key}: ")
    assert "\n" not in str(fault.value)


def test_a_sidecar_without_schema_version_is_damaged(written: Path):
    content = json.loads(written.read_text("utf-8"))
    del content["SchemaVersion"]
    written.write_text(json.dumps(content), "utf-8")
    with pytest.raises(MrharmonyError, match=r"T1w\.json: SchemaVersion: missing\. Harmonize the scan again"):
        read_harmonized(written)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"EchoTime": 0.003}', '{"Method": "scanner"}'])
def test_other_files_are_not_taken_for_sidecars_of_harmonized_scans(tmp_path: Path, text: str):
    path = tmp_path / "scan.json"
    assert read_harmonized(path) is None
    path.write_text(text, "utf-8")
    assert read_harmonized(path) is None
    assert read_uncertainty(path) is None
