"""The paragraph for a paper and its references: of what ran, and each work that is cited once."""

import re
from itertools import chain

import pytest

from mrharmony.methods.registry import METHOD_NAMES
from mrharmony.report.methods_text import bibliography, methods_text
from mrharmony.report.references import IKEGAMI, OF_METHODS
from mrharmony.report.scan_page import CITATION
from mrharmony.scans.sidecar import HarmonizedSidecar, Software

NOTE = HarmonizedSidecar(
    schema_version=1,
    target="NSK",
    source="LA",
    method="diffusion",
    model="compact",
    model_sha256="0123456789abcdef" * 4,
    seed=7,
    intensity_scale=1.0,
    sources=(),
    drift={},
    verdict="pass",
    generated_by=(Software(name="mrharmony", version="9.9"),),
    versions={"torch": "2.0", "deepbet": "1.0.2"},
)


def test_the_paragraph_tells_what_ran():
    other = NOTE.model_copy(update={"source": None, "verdict": "warn"})
    text = methods_text([NOTE, NOTE, other], missing=2)
    for wanted in (
        "deepbet 1.0.2 (Fisch et al. 2024)",
        "The method diffusion",
        "the model compact, SHA-256 0123456789abcdef…, seed 7",
        "the brain of 3 scans into the contrast of NSK",
        "The source was given as LA (2), and was not given for 1 scan.",
        "2 pass, 1 warn. 2 further scans had no result.",
        "Software: mrharmony 9.9, deepbet 1.0.2, torch 2.0.",
    ):
        assert wanted in text


def test_scans_of_different_settings_have_a_sentence_each():
    head = NOTE.model_copy(update={"extent": "head", "method": "histogram"})
    text = methods_text([NOTE, head])
    assert "brought the brain of 1 scan" in text
    assert "brought the whole head of 1 scan" in text
    assert "(Nyúl et al. 2000)" in text


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_each_work_that_is_cited_has_one_entry(method: str):
    note = NOTE.model_copy(update={"method": method})
    text, entries = methods_text([note, note]), bibliography([note, note])
    keys = re.findall(r"^@\w+\{([^,]+),$", entries, re.MULTILINE)
    assert len(keys) == len(set(keys)) == text.count("\n- ")
    assert all(f"@{work.kind}{{{work.key}," in entries for work in OF_METHODS.get(method, ()))
    assert entries.count("{") == entries.count("}")
    paragraph = text.split("## References")[0]
    assert all(work.short in paragraph for work in (IKEGAMI, *OF_METHODS.get(method, ())))


def test_methods_and_works_are_known():
    assert set(OF_METHODS) <= set(METHOD_NAMES)
    for work in chain.from_iterable(OF_METHODS.values()):
        assert work.fields["year"] in work.short
        assert work.text().startswith(work.short.split()[0])
    assert IKEGAMI.fields["title"].replace("{", "").replace("}", "") in CITATION
