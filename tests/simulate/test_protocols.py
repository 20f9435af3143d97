"""Protocols as users tell them: read as meant, what is missing said, what cannot be told refused."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mrharmony.core.findings import MrharmonyError
from mrharmony.simulate.cohort_files import scan_sidecar
from mrharmony.simulate.protocol import (
    EXAMPLE,
    Protocol,
    is_protocol,
    protocol_findings,
    protocol_of_sidecar,
    protocol_record,
    read_protocol,
)
from mrharmony.simulate.random_physics import random_scanner
from mrharmony.simulate.scanner import Scanner, load_scanners
from mrharmony.simulate.signal import Mprage, SpoiledGradientEcho

SCANNERS = [scanner for scanner in load_scanners().values() if scanner.sequence.kind != "mp2rage"]
# As dcm2niix writes them, without what says nothing of the contrast.
SIEMENS = {
    "Modality": "MR",
    "MagneticFieldStrength": 3,
    "Manufacturer": "Siemens",
    "ManufacturersModelName": "Prisma_fit",
    "MRAcquisitionType": "3D",
    "SeriesDescription": "Accelerated Sagittal MPRAGE (MSV21)",
    "ScanningSequence": "GR\\IR",
    "SequenceVariant": "SK\\SP\\MP",
    "ScanOptions": "IR\\PFP",
    "PulseSequenceDetails": "%SiemensSeq%\\tfl",
    "SequenceName": "*tfl3d1_16ns",
    "ImageType": ["ORIGINAL", "PRIMARY", "M", "ND", "NORM"],
    "EchoTime": 0.00295,
    "RepetitionTime": 2.3,
    "InversionTime": 0.9,
    "FlipAngle": 9,
    "PartialFourier": 1,
    "DwellTime": 8.1e-06,
}
GE = {
    "Modality": "MR",
    "MagneticFieldStrength": 3,
    "Manufacturer": "GE",
    "PulseSequenceName": "efgre3d",
    "InternalPulseSequenceName": "EFGRE3D",
    "ManufacturersModelName": "DISCOVERY MR750",
    "MRAcquisitionType": "3D",
    "SeriesDescription": "Sag IR-FSPGR BRAVO",
    "ProtocolName": "BRAIN T1 T2 FLAIR",  # of the whole examination
    "ScanningSequence": "GR",
    "SequenceVariant": "SS\\SP\\SK",
    "ScanOptions": "FAST_GEMS\\EDR_GEMS\\ACC_GEMS",
    "EchoTime": 0.003036,
    "RepetitionTime": 0.007332,
    "InversionTime": 0.4,
    "FlipAngle": 11,
    "EchoTrainLength": 1,
}
PHILIPS = {
    "Modality": "MR",
    "MagneticFieldStrength": 3,
    "Manufacturer": "Philips",
    "PulseSequenceName": "T1TFE",
    "MRAcquisitionType": "3D",
    "SeriesDescription": "MPRAGE SENSE2",
    "ScanningSequence": "GR",
    "SequenceVariant": "MP",
    "EchoTime": 0.002941,
    "RepetitionTime": 0.0065,
    "RepetitionTimeExcitation": 0.0065,
    "RepetitionTimeInversion": 3.0,
    "InversionTime": 0.9,
    "FlipAngle": 9,
}
SPGR = {
    "MagneticFieldStrength": 1.5,
    "ScanningSequence": ["GR"],
    "SequenceVariant": ["SP", "OSP"],
    "SequenceName": "*fl3d1",
    "EchoTime": 0.0092,
    "RepetitionTime": 0.022,
    "FlipAngle": 30,
}


def sentence(scanner: Scanner) -> str:
    sequence = scanner.sequence
    said = [sequence.kind, f"{scanner.field_strength:g}T", f"TR={sequence.repetition_time_ms:.12g}"]
    if isinstance(sequence, Mprage):
        said += [f"TI={sequence.inversion_time_ms:.12g}", f"ES={sequence.echo_spacing_ms:.12g}"]
        said += [f"N={sequence.excitations}", f"EFF={sequence.inversion_efficiency:g}"]
    return " ".join([*said, f"TE={sequence.echo_time_ms:.12g}", f"FA={sequence.flip_angle_deg:.12g}"])


def protocol_of(scanner: Scanner) -> Protocol:
    return Protocol(field_strength=scanner.field_strength, sequence=scanner.sequence)


@pytest.mark.parametrize("scanner", SCANNERS, ids=lambda scanner: scanner.name)
def test_every_shipped_scanner_is_read_back_from_sentence_sidecar_and_name(scanner, tmp_path: Path):
    path = tmp_path / "protocol.json"
    path.write_text(json.dumps(scan_sidecar(scanner)), "utf-8")
    own = protocol_of(scanner)
    for text in (sentence(scanner), str(path), own.name):
        assert is_protocol(text)
        read = read_protocol(text)
        assert (read.field_strength, read.sequence) == (own.field_strength, own.sequence)
    assert read_protocol(path) == read_protocol(str(path))
    assert read_protocol(sentence(scanner)).assumed == ()


def test_the_shipped_mp2rage_is_refused():
    with pytest.raises(MrharmonyError, match=r"a\.json: MP2RAGE is no mixture of the contrasts"):
        protocol_of_sidecar(scan_sidecar(load_scanners()["mp2rage-3t"]), "a.json")


def test_the_example_is_adni_2s_mprage_and_what_it_lacks_is_said():
    read = read_protocol(EXAMPLE)
    assert read.sequence == load_scanners()["mprage-3t"].sequence
    assert read.name == "mprage-3T-TR2300-TI900-TE3-FA9"
    assert read.describe() == "MPRAGE at 3 T: TR 2300 ms, TI 900 ms, TE 3 ms, FA 9°, ES 7 ms, N 176"
    assert [word in " ".join(read.assumed) for word in ("spacing", "number", "0.96")] == [True] * 3
    assert len(read.assumed) == 3


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("MPRAGE, 3 T; fa 9°, te=3ms, TR: 2.3 s, ti=0.9s", "mprage-3T-TR2300-TI900-TE3-FA9"),
        ("3D T1w mp-rage B0=3 TR2300 TI900 FA9 TE3.0", "mprage-3T-TR2300-TI900-TE3-FA9"),
        ("tfe 3T TR=2300 TI=900 TE=3 FA=9 ES=7.0 N=176", "mprage-3T-TR2300-TI900-TE3-FA9"),
        ("ir-spgr 3tesla TR=2300 TI=900 TE=3 FA=9 N=120", "mprage-3T-TR2300-TI900-TE3-FA9-N120"),
        ("T1-FFE 1.5T TR=22 TE=9.2 FA=30deg", "spgr-1.5T-TR22-TE9.2-FA30"),
        ("fspgr 1.494 T TR=.022s TE=9.2 FA=30", "spgr-1.5T-TR22-TE9.2-FA30"),
        ("tfe 3T TR=9.6 TE=4.6 FA=12", "spgr-3T-TR9.6-TE4.6-FA12"),
        ("3T TR=18 FA=20", "spgr-3T-TR18-TE3-FA20"),
        ("bravo 3T TR=7 TI=400 TE=3 FA=11", "mprage-3T-TR1639-TI1016-TE3-FA11"),
        ("mprage 3T TR=1700 TI=500 TE=3 FA=9", "mprage-3T-TR1700-TI500-TE3-FA9"),
    ],
)
def test_sentences_are_free_in_order_case_units_and_names(text: str, name: str):
    assert is_protocol(text)
    assert read_protocol(text).name == name
    assert read_protocol(name).sequence == read_protocol(text).sequence


def test_the_mprage_of_a_siemens_scanner():
    read = protocol_of_sidecar(SIEMENS | {"MagneticFieldStrength": 2.89362}, "a.json")
    assert read.name == "mprage-3T-TR2300-TI900-TE2.95-FA9"
    assert read.assumed[0] == "The field strength 2.89362 T is taken for 3 T."


def test_the_bravo_of_a_ge_scanner_counts_ti_to_the_first_excitation():
    sequence = protocol_of_sidecar(GE, "a.json").sequence
    assert isinstance(sequence, Mprage)
    assert (sequence.echo_spacing_ms, sequence.excitations) == (7.332, 176)
    assert sequence.delay_before_ms == pytest.approx(400)
    assert sequence.repetition_time_ms == pytest.approx(400 + 177 * 7.332)
    assert any("GE" in said for said in protocol_of_sidecar(GE, "a.json").assumed)


def test_the_tfe_of_a_philips_scanner_needs_the_time_from_inversion_to_inversion():
    read = protocol_of_sidecar(PHILIPS, "a.json")
    assert read.name == "mprage-3T-TR3000-TI900-TE2.941-FA9-ES6.5"
    with pytest.raises(MrharmonyError, match=r"a\.json: TR 6\.5 ms.*Add RepetitionTimePreparation \(seconds"):
        protocol_of_sidecar(
            {k: v for k, v in PHILIPS.items() if not k.startswith("RepetitionTimeI")}, "a.json"
        )


def test_a_spoiled_gradient_echo_needs_no_assumption():
    read = protocol_of_sidecar(SPGR, "a.json")
    assert (read.name, read.assumed) == ("spgr-1.5T-TR22-TE9.2-FA30", ())
    with pytest.raises(
        MrharmonyError, match=r"repetition time is missing. Add RepetitionTimeExcitation \(sec"
    ):
        protocol_of_sidecar(SPGR | {"RepetitionTime": None}, "a.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"MagneticFieldStrength": None}, r"field strength is missing. Add MagneticFieldStrength \(tesla\)"),
        ({"MagneticFieldStrength": 7}, "7 T is not known, only at 1.5 and 3 T"),
        ({"MagneticFieldStrength": 0.5}, "0.5 T is not known"),
        ({"MagneticFieldStrength": 15000}, "15000 T is not between"),
        ({"RepetitionTime": None}, r"repetition time is missing. Add RepetitionTimePreparation \(seconds\)"),
        ({"InversionTime": "n/a"}, r"inversion time is missing. Add InversionTime \(seconds\)"),
        ({"FlipAngle": 0}, "flip angle is missing. Add FlipAngle"),
        ({"RepetitionTime": 2300}, "RepetitionTime 2300 s is not between .* Times are in seconds here"),
        ({"InversionTime": 900}, "InversionTime 900 s is not between"),
        ({"EchoTime": 2.95}, "EchoTime 2.95 s is not between"),
        ({"FlipAngle": 0.157}, "FlipAngle 0.157° is not between"),
        ({"InversionTime": 2.4}, "TI 2400 ms does not fit within TR 2300 ms"),
        ({"EchoTime": 0.012, "RepetitionTimeExcitation": 0.01}, "TE 12 ms does not fit within ES 10 ms"),
        ({"EchoTime": 0.09}, r"T2 or T2\*"),
        ({"NumberShots": 300, "RepetitionTimeExcitation": 0.01}, "300 excitations 10 ms apart do not fit"),
        ({"InversionTime": 0.06}, "no train of excitations fits"),
        ({"InversionTime": [0.7, 2.5]}, "MP2RAGE is no mixture"),
        ({"SeriesDescription": "t1_mp2rage_sag_UNI"}, "MP2RAGE is no mixture"),
        ({"SeriesDescription": "T2w SPACE"}, "T2 is not T1w"),
        ({"SeriesDescription": "sag 3D FLAIR"}, "FLAIR is not T1w"),
        ({"SeriesDescription": "PDw_gre"}, "PD is not T1w"),
        ({"ScanningSequence": "SE"}, "Spin echo is not T1w"),
        ({"ScanningSequence": ["SE", "IR"]}, "Spin echo is not T1w"),
        ({"ScanningSequence": "EP\\GR"}, "EPI is not T1w"),
        ({"PulseSequenceDetails": "%SiemensSeq%\\trufi"}, "SSFP is not T1w"),
        ({"MRAcquisitionType": "2D"}, "MRAcquisitionType is not 3D"),
        ({"ContrastBolusIngredient": "GADOLINIUM"}, "tells of a contrast agent"),
        ({"SeriesDescription": "t1_mprage_post_gd"}, "tells of a contrast agent"),
        ({"EchoTime": [0.002, 0.004]}, "EchoTime is .*, no plausible number"),
        ({"FlipAngle": True}, "FlipAngle is True, no plausible number"),
        ({"FlipAngle": 10**400}, "no plausible number"),
        ({"RepetitionTime": float("nan")}, "RepetitionTime nan s is not between"),
        ({"NumberShots": 100.5}, "NumberShots 100.5 is no whole number"),
    ],
)
def test_sidecars_that_tell_no_contrast_are_refused_in_a_sentence(change: dict[str, object], message: str):
    with pytest.raises(MrharmonyError, match=message) as error:
        protocol_of_sidecar(SIEMENS | change, "sub-01_T1w.json")
    assert str(error.value).startswith("sub-01_T1w.json: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mprage TR=2300 TI=900 FA=9", "field strength is missing. Add 3T or 1.5T"),
        ("mprage 3T TI=900 FA=9", "repetition time is missing. Add TR="),
        ("mprage 3T TR=2300 FA=9", "inversion time is missing. Add TI="),
        ("mprage 3T TR=2300 TI=900", "flip angle is missing. Add FA="),
        ("3T TR=2300 FA=9", "sequence and inversion time are missing"),
        ("mprage 7T TR=2300 TI=900 FA=9", "7 T is not known"),
        ("mprage 3T TR=2.3 TI=0.9 FA=9", "TR 2.3 ms is not between 3 and 10000.* or like 2.3s"),
        ("mprage 3T TR=2,3s TI=900 FA=9", "'TR=2,3' has a decimal comma. Write a decimal point."),
        ("spgr 1,5T TR=20 FA=20", "'1,5' has a decimal comma"),
        ("mprage 3T TR=2300s TI=900 FA=9", "TR 2300 s is not between"),
        ("mprage 3T TR=2300 TI=900 FA=9ms", "FA is not measured in ms"),
        ("mprage 3T TR=2300 TR=2400 TI=900 FA=9", "TR is given twice"),
        ("mprage 3T 1.5T TR=2300 TI=900 FA=9", "B0 is given twice"),
        ("mprage 3T TR=-2300 TI=900 FA=9", "'TR=-2300' cannot be read"),
        ("mprage 3T TR=2300 TI=900 alpha=9", "'alpha=9' cannot be read .* domain that the model knows"),
        ("spgr 3T TR=20 TE=5 FA=20 N=100", "N is of a train after an inversion"),
        ("spgr 3T TR=20 TE=5 FA=3", "no T1w contrast: relative to WM, GM 1.1"),
        ("spgr 3T TR=6 TE=7 FA=12", "TE 7 ms does not fit within TR 6 ms"),
        ("tfe 3T TR=9.6 TI=900 FA=12", "TR 9.6 ms is that of the excitations"),
        ("mprage 3T TR=2300 TI=409 FA=9 N=50", "no T1w contrast"),
        ("mp2rage 3T TR=5000 FA=4", "MP2RAGE is no mixture"),
        ("t2w 3T TR=3200 TE=400", "T2 is not T1w"),
        ("flair 3T", "FLAIR is not T1w"),
        ("epi 3T TR=2000 TE=30 FA=80", "EPI is not T1w"),
        ("space 3T", "Spin echo is not T1w"),
        ("nowhere.json", r"nowhere\.json: cannot be read \(there is no such file"),
    ],
)
def test_sentences_that_tell_no_contrast_are_refused(text: str, message: str):
    assert is_protocol(text) or "3T" not in text
    with pytest.raises(MrharmonyError, match=message) as error:
        read_protocol(text)
    assert text in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", ["", "[1, 2]", "{", '"mprage"'])
def test_files_that_are_no_sidecars_are_refused(content: str, tmp_path: Path):
    path = tmp_path / "protocol.json"
    path.write_text(content, "utf-8")
    with pytest.raises(MrharmonyError, match=r"protocol\.json: (cannot be read|not a JSON)"):
        read_protocol(str(path))


def test_a_sidecar_that_says_two_things_of_one_is_refused(tmp_path: Path):
    path = tmp_path / "protocol.json"
    said = json.dumps(scan_sidecar(SCANNERS[0])).removesuffix("}")
    path.write_text(f'{said}, "EchoTime": 0.5}}', "utf-8")
    with pytest.raises(MrharmonyError, match=r"protocol\.json: cannot be read \(EchoTime stands twice"):
        read_protocol(path)
    path.write_text(f'{said}, "Own": NaN}}', "utf-8")
    assert read_protocol(path).sequence == SCANNERS[0].sequence
    once = json.loads(said + "}")["EchoTime"]
    path.write_text(f'{said}, "EchoTime": {once}}}', "utf-8")
    assert read_protocol(path).sequence == SCANNERS[0].sequence


@pytest.mark.parametrize("wrong", [None, 3, EXAMPLE.encode(), [EXAMPLE]], ids=repr)
def test_what_is_no_text_is_refused_in_a_sentence(wrong: object):
    with pytest.raises(
        MrharmonyError, match=rf"^text: a value of type {type(wrong).__name__} cannot be read"
    ):
        read_protocol(wrong)


@pytest.mark.parametrize("text", ["NSK", "LA", "mprage3t", "my site", "T1", "site-3", "3 tests"])
def test_names_are_no_protocols(text: str):
    assert not is_protocol(text)


@given(st.integers(0, 10_000))
def test_random_protocols_are_read_back_from_their_names_and_sentences(seed: int):
    scanner = random_scanner(np.random.default_rng(seed))
    own = protocol_of(scanner)
    for text in (own.name, sentence(scanner)):
        read = read_protocol(text)
        assert read_protocol(read.name).name == read.name
        for key, value in own.sequence:
            assert getattr(read.sequence, key) == (value if key == "kind" else pytest.approx(value, rel=1e-9))


@given(st.permutations(["mprage", "3T", "TR=2300", "TI=900", "TE=3", "FA=9"]), st.sampled_from(" ,;-\n"))
def test_order_case_and_separators_make_no_difference(parts: list[str], separator: str):
    assert read_protocol(separator.join(parts).lower()) == read_protocol(EXAMPLE)


@given(
    st.one_of(
        st.text(),
        st.lists(
            st.sampled_from([*"0.9- =T", "3T", "TR", "TI=", "FA=9", "mprage", "spgr", "N=", "ms", "s", "e5"])
        ).map("".join),
    )
)
def test_any_text_is_read_or_refused(text: str):
    if not text.lower().endswith(".json"):
        with suppress(MrharmonyError):
            assert isinstance(read_protocol(text), Protocol)


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.lists(st.floats(), max_size=2),
)


@given(st.dictionaries(st.sampled_from(sorted({*SIEMENS, *PHILIPS, "NumberShots"})), VALUES))
def test_any_sidecar_is_read_or_refused(change: dict[str, object]):
    with suppress(MrharmonyError):
        assert isinstance(protocol_of_sidecar(SIEMENS | change, "a.json"), Protocol)


def test_a_protocol_is_a_domain_that_says_what_was_assumed():
    domain = read_protocol(EXAMPLE).domain
    findings = protocol_findings(None, domain)
    assert findings == protocol_findings(domain, read_protocol(EXAMPLE).domain)  # the same is told once
    assert domain.name == "mprage-3T-TR2300-TI900-TE3-FA9"
    assert {finding.level for finding in findings} == {"info"}
    assert [finding.message for finding in findings] == [
        f"{domain.name}: {said}" for said in read_protocol(EXAMPLE).assumed
    ]
    record = protocol_record(domain)
    assert record is not None
    assert Protocol.model_validate(record).sequence == read_protocol(EXAMPLE).sequence
    assert json.loads(json.dumps(record)) == record


def test_a_protocol_of_other_weighting_cannot_be_made():
    weighted_by_density = SpoiledGradientEcho(repetition_time_ms=25, echo_time_ms=5, flip_angle_deg=3)
    with pytest.raises(ValidationError, match="no T1w contrast"):
        Protocol(field_strength=3.0, sequence=weighted_by_density)
