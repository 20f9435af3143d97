"""A paragraph for a paper's methods section, from the settings that ran, and the works that it cites."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from mrharmony.core.wording import count_of
from mrharmony.methods.registry import METHOD_NAMES, method_named
from mrharmony.report.group_summary import verdict_counts
from mrharmony.report.references import DEEPBET, ICBM152, IKEGAMI, MRHARMONY, OF_METHODS, SYNTHSR, Reference
from mrharmony.scans.sidecar import HarmonizedSidecar

_SETTINGS = ("method", "target", "model", "model_sha256", "seed", "extent", "detail_transfer")


def methods_text(notes: Sequence[HarmonizedSidecar], missing: int = 0) -> str:
    """Return the paragraph and its references as Markdown.

    Parameters
    ----------
    notes
        What the sidecars of the harmonized scans say; one at least.
    missing
        Number of scans without a result.
    """
    references = "\n".join(f"- {work.text()}" for work in _cited(notes))
    return (
        "# Methods text\n\n"
        "You may paste this paragraph into your methods section; it was written from the settings that ran. "
        "The file beside it that ends in `.bib` has the references for BibTeX.\n\n"
        f"{_preparation(notes)} {_methods(notes)} {_results(notes, missing)} {_software(notes)}\n\n"
        f"## References\n\n{references}\n"
    )


def bibliography(notes: Sequence[HarmonizedSidecar]) -> str:
    """Return a BibTeX entry for each work that `methods_text` cites."""
    return "\n".join(work.bibtex() for work in _cited(notes))


def _cited(notes: Sequence[HarmonizedSidecar]) -> list[Reference]:
    methods = dict.fromkeys(note.method for note in notes)
    own = [work for method in methods for work in OF_METHODS.get(method, ())]
    return list({work.key: work for work in (MRHARMONY, IKEGAMI, DEEPBET, SYNTHSR, ICBM152, *own)}.values())


def _preparation(notes: Sequence[HarmonizedSidecar]) -> str:
    versions = sorted({version for note in notes if (version := note.versions.get("deepbet"))})
    deepbet = f"deepbet {', '.join(versions)}".strip()
    return (
        f"T1-weighted scans were harmonized with {MRHARMONY.short}, which starts from the idea of "
        f"{IKEGAMI.short} to name the domains of one latent diffusion model. Each scan was prepared as "
        f"follows. The brain was marked by {deepbet} ({DEEPBET.short}), unless the scan came skull-stripped "
        "or a mask was given. Its receive field was estimated with contrasts that a network synthesizes, in "
        f"the spirit of SynthSR ({SYNTHSR.short}), and divided out. The brain was aligned rigidly to the "
        f"ICBM152 template ({ICBM152.short}), and the 90th percentile of its intensities became 1. Voxels "
        "were not resampled."
    )


def _methods(notes: Sequence[HarmonizedSidecar]) -> str:
    runs = Counter(tuple(getattr(note, name) for name in _SETTINGS) for note in notes)
    examples = {tuple(getattr(note, name) for name in _SETTINGS): note for note in notes}
    return " ".join(_run(examples[run], count) for run, count in runs.items())


def _run(note: HarmonizedSidecar, count: int) -> str:
    """Return what was done with the scans of one setting."""
    known = note.method in METHOD_NAMES
    description = f" ({method_named(note.method).description})" if known else ""
    works = "; ".join(work.short for work in OF_METHODS.get(note.method, ()))
    cited = f" ({works})" if works else ""
    sha256 = f", SHA-256 {note.model_sha256[:16]}…" if note.model_sha256 else ""
    model = f" with the model {note.model}{sha256}" if note.model else ""
    what = "the whole head" if note.extent == "head" else "the brain"
    detail = " Sharpness and noise were then filtered toward the target's." if note.detail_transfer else ""
    return (
        f"The method {note.method}{description}{cited}{model}, seed {note.seed}, then brought {what} of "
        f"{count_of(count, 'scan')} into the contrast of {note.target}, on each scan's own voxels.{detail}"
    )


def _results(notes: Sequence[HarmonizedSidecar], missing: int) -> str:
    given = Counter(note.source for note in notes if note.source)
    sources = ", ".join(f"{name} ({count})" for name, count in sorted(given.items()))
    unknown = len(notes) - sum(given.values())
    told = f"The source was given as {sources}" if given else "No source was given"
    told += f", and was not given for {count_of(unknown, 'scan')}." if given and unknown else "."
    without = f" {count_of(missing, 'further scan')} had no result." if missing else ""
    return (
        f"{told} By its drift from source to output, each scan has a verdict: "
        f"{verdict_counts([note.verdict for note in notes])}.{without}"
    )


def _software(notes: Sequence[HarmonizedSidecar]) -> str:
    programs = {f"{program.name} {program.version}" for note in notes for program in note.generated_by}
    libraries = {f"{name} {version}" for note in notes for name, version in note.versions.items()}
    used = f", {', '.join(sorted(libraries))}" if libraries else ""
    return f"Software: {', '.join(sorted(programs)) or MRHARMONY.short}{used}."
