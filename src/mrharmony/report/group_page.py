"""The page of a group of scans: which to look at, whether sites came nearer, and a table of them all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import numpy as np

from mrharmony.core.sampling import ENOUGH, some_of_each
from mrharmony.core.wording import count_of, some_of
from mrharmony.evaluate.group_biology import Factor
from mrharmony.evaluate.group_measures import BINS, BRIGHTEST, MeasuredPair
from mrharmony.evaluate.site_effect import SiteEffect
from mrharmony.evidence.verdict import LIMITS
from mrharmony.report.charts import Chart, Plane
from mrharmony.report.group_summary import (
    caution,
    factor_sentence,
    site_sentence,
    verdict_counts,
)
from mrharmony.report.page import render
from mrharmony.report.points import STYLES, Dot, PointChart, embedding, odd_rows, site_styles, strip
from mrharmony.report.scan_page import MEANINGS

PICTURES = 100  # at most, so that the page stays below 5 MB
_FIRST = 2  # scans of each site that have a picture though nothing is odd about them
_NAMED = 8  # scans that a sentence names
_MORE_MEANINGS = {"mean_change": ("mean change", "how much changed at all; no good or bad")}
_TICKS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4)
UNKNOWN_SITE = "unknown site"


@dataclass(frozen=True)
class GroupRow:
    """One scan of the page.

    Parameters
    ----------
    name, subject, site
        Of the scan.
    status
        `done`; any other, such as `refused` or `damaged`, where there is no result.
    reason
        Why there is no result, in a sentence.
    verdict, reasons
        On its drift, and what decided it in plain words; None and empty where there is no result.
    target, source, nearest, distance
        Names of the domains, and how near the scan is to the nearest; None where that is not known.
    figures
        Drift by name.
    provenance
        Method, model and versions, as label and text.
    page, links
        Address of the scan's own page, relative to this one; other pages, as label and address.
    participant
        What the participants' table knows of the person, by column.
    measured
        Figures of source and output; None where they cannot be had.
    picture
        Data URI of before and after.
    remark
        What could not be shown and why; empty if nothing.
    """

    name: str
    subject: str
    site: str
    status: str = "done"
    reason: str = ""
    verdict: str | None = None
    reasons: tuple[str, ...] = ()
    target: str = ""
    source: str | None = None
    nearest: str | None = None
    distance: float | None = None
    figures: Mapping[str, float] = field(default_factory=dict)
    provenance: tuple[tuple[str, str], ...] = ()
    page: str | None = None
    links: tuple[tuple[str, str], ...] = ()
    participant: Mapping[str, str] = field(default_factory=dict)
    measured: MeasuredPair | None = None
    picture: str | None = None
    remark: str = ""


@dataclass(frozen=True)
class Judgement:
    """What was found of the group; `why_not` says in a sentence why the sites were not compared."""

    effect: SiteEffect | None
    why_not: str
    factors: tuple[Factor, ...] | None  # None where nothing can be measured, for the same reason


def group_page(
    title: str,
    rows: Sequence[GroupRow],
    judgement: Judgement,
    links: Sequence[tuple[str, str]] = (),
    lost: Mapping[str, str] = MappingProxyType({}),
    without_scan: Sequence[str] = (),
) -> str:
    """Return the self-contained HTML page of a group.

    `links` are other pages of the folder, label and address relative to this one; `lost` are files that
    could not be used, with the reason; `without_scan` are people of whom there is no scan to harmonize.
    """
    done = [row for row in rows if row.status == "done"]
    missing = [row for row in rows if row.status != "done"]
    sites = dict(sorted(Counter(row.site for row in rows).items()))
    odd = odd_figures(done)
    return render(
        "group",
        title=title,
        rows=done,
        missing=missing,
        lost=lost,
        links=links,
        sites=site_styles(list(sites)),
        verdicts=_verdicts_by_site(rows, sites),
        overview=f"{_overview(done)}{_no_scans(without_scan)}",
        about_sites=site_sentence(judgement.effect) if judgement.effect else judgement.why_not,
        to_look_at=[(number, row) for number, row in enumerate(done) if row.verdict != "pass"],
        named=_NAMED,
        odd=odd,
        apart={number: reasons for number, reasons in odd.items() if done[number].verdict == "pass"},
        figure_names={name: _meaning(name)[0] for name in _figure_names(done)},
        strips=_strips(done, list(sites)),
        histograms=_histograms(done, list(sites)),
        unmeasured=sum(row.measured is None or row.measured.before is None for row in done),
        judgement=judgement,
        caution=caution(judgement.effect) if judgement.effect else "",
        maps=_maps(done, judgement.effect, list(sites)),
        factor_sentences=[factor_sentence(factor) for factor in judgement.factors or ()],
        provenances=Counter(row.provenance for row in done),
        pictures=sum(row.picture is not None for row in done),
    )


def worth_a_picture(rows: Sequence[GroupRow]) -> list[int]:
    """Return which rows get a picture: doubtful ones, those apart from their site, the first of each site."""
    odd = odd_figures(rows)
    seen: Counter[str] = Counter()
    ranks = []
    for number, row in enumerate(rows):
        seen[row.site] += 1
        wanted = (row.verdict == "fail", row.verdict == "warn", number in odd, seen[row.site] <= _FIRST)
        if any(wanted):
            ranks.append((wanted.index(True), number))
    return sorted(number for _, number in sorted(ranks)[:PICTURES])


def worth_a_look(rows: Sequence[GroupRow]) -> list[int]:
    """Return which rows' images are looked at: all, or as many of each site, and the pictured.

    Looking at one takes a second.
    """
    chosen = some_of_each([(row.site, row.name) for row in rows], ENOUGH)
    return sorted({*chosen, *worth_a_picture(rows)})


def odd_figures(rows: Sequence[GroupRow]) -> dict[int, list[str]]:
    """Return the numbers of rows with odd figures, and the plain names of these."""
    odd: dict[int, list[str]] = {}
    for name in _figure_names(rows):
        for number in odd_rows(_dots(rows, name), LIMITS.get(name)):
            odd.setdefault(number, []).append(_meaning(name)[0])
    return odd


def _figure_names(rows: Sequence[GroupRow]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row.figures))


def _meaning(name: str) -> tuple[str, str]:
    return (MEANINGS | _MORE_MEANINGS).get(name, (name.replace("_", " "), ""))


def _dots(rows: Sequence[GroupRow], name: str) -> list[Dot]:
    return [
        Dot(number, row.name, row.site, row.figures[name])
        for number, row in enumerate(rows)
        if np.isfinite(row.figures.get(name, np.nan))
    ]


def _strips(rows: Sequence[GroupRow], sites: Sequence[str]) -> list[PointChart]:
    dots = {name: _dots(rows, name) for name in _figure_names(rows)}
    return [strip(*_meaning(name), own, sites, LIMITS.get(name)) for name, own in dots.items() if own]


def _verdicts_by_site(rows: Sequence[GroupRow], sites: Mapping[str, int]) -> list[tuple[str, list[int], int]]:
    """Return for each site how many scans have each verdict or no result, and how many it has."""
    counts = Counter((row.site, row.verdict if row.status == "done" else "no result") for row in rows)
    states = ("pass", "warn", "fail", "no result")
    return [(site, [counts[site, state] for state in states], total) for site, total in sites.items()]


def _overview(done: Sequence[GroupRow]) -> str:
    if not done:
        return "none was harmonized."
    targets = ", ".join(dict.fromkeys(row.target for row in done))
    known = {row.site for row in done} - {UNKNOWN_SITE}
    sites = count_of(len(known), "site") if known else "unknown sites"
    verdicts = verdict_counts([row.verdict for row in done])
    return f"{count_of(len(done), 'scan')} of {sites} harmonized to {targets}: {verdicts}."


def _no_scans(people: Sequence[str]) -> str:
    if not people:
        return ""
    return (
        f" Of {count_of(len(people), 'person')} in participants.tsv there is no T1w scan: {some_of(people)}."
    )


def _histograms(rows: Sequence[GroupRow], sites: Sequence[str]) -> list[Chart]:
    """Return the mean histograms of the sites before and after, of scans with both, on common axes."""
    pairs = [(row.site, row.measured) for row in rows if row.measured and row.measured.before]
    means = {
        when: {
            site: np.mean([getattr(pair, when).histogram for own, pair in pairs if own == site], axis=0)
            for site in sites
            if any(own == site for own, _ in pairs)
        }
        for when in ("before", "after")
    }
    if not pairs:
        return []
    plane = Plane(
        (0, BRIGHTEST), (0, 1.05 * max(float(h.max()) for part in means.values() for h in part.values()))
    )
    centres = (np.arange(BINS) + 0.5) * BRIGHTEST / BINS
    return [
        plane.chart(
            f"Grey values {when}",
            ("intensity", "share of the brain"),
            (_TICKS, ()),
            [plane.line(site, f"site-{sites.index(site) % STYLES}", centres, h) for site, h in part.items()],
        )
        for when, part in means.items()
    ]


def _maps(rows: Sequence[GroupRow], effect: SiteEffect | None, sites: Sequence[str]) -> list[PointChart]:
    """Return the embedding before and after; `effect` compares rows by their number."""
    if effect is None:
        return []
    scans = [(int(number), rows[number].site) for number in effect.compared]
    everywhere = np.concatenate(effect.places)
    return [
        embedding(title, places, everywhere, scans, sites)
        for title, places in zip(("Before", "After"), effect.places, strict=True)
    ]


def renumbered(effect: SiteEffect, numbers: Sequence[int]) -> SiteEffect:
    """Return an effect on scans that were some of the rows, with the numbers of these rows."""
    return replace(effect, compared=np.array(numbers)[effect.compared])
