"""What a group's page says in sentences: which scans to look at, whether sites came nearer, what was kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from mrharmony.core.wording import count_of
from mrharmony.evaluate.bootstrap import Estimate
from mrharmony.evaluate.group_biology import Factor
from mrharmony.evaluate.site_effect import SiteEffect

_CLEAR = 0.05  # of an accuracy: less is no difference worth telling
_MANY = 15  # persons of a site; fewer give wide intervals
_NEARER = 0.8  # the distance after over the one before, below which sites came nearer


def verdict_counts(verdicts: Sequence[str | None]) -> str:
    """Return how many scans have which verdict, in words."""
    counts = Counter(verdict for verdict in verdicts if verdict)
    return ", ".join(f"{counts[name]} {name}" for name in ("pass", "warn", "fail") if counts[name])


def site_sentence(effect: SiteEffect) -> str:
    """Return whether the site effect went down, in plain words."""
    first, second = effect.histograms
    sites = " and ".join(filter(None, [", ".join(list(effect.people)[:-1]), list(effect.people)[-1]]))
    near = second < _NEARER * first
    gone = effect.grey.after.low < effect.chance + _CLEAR
    if near and gone:
        verdict = "It went down, and a classifier does not clearly find it in the grey values"
    elif near and effect.grey.before.value - effect.grey.after.value > _CLEAR:
        verdict = "It went down, but it is not gone"
    elif near:
        verdict = "It went down in the histograms, but a classifier finds the site as before"
    elif second > first / _NEARER:
        verdict = "It went up"
    else:
        verdict = "It did not clearly change"
    change = f" ({percent(second / first - 1, '+.0f').replace('-', '−')})" if first > 0 else ""
    advice = "" if gone else " So an analysis of these scans has to take the site into account."
    grey, everything = effect.grey, effect.everything
    return (
        f"{verdict}. The distance between the mean histograms of {sites} went from {first:.3f} to "
        f"{second:.3f}{change}. Classifiers that look for the site in the grey values of persons unknown to "
        f"them found it in {_share(grey.before)} of the scans before and in {_share(grey.after)} after, and "
        f"with contrast and sharpness too in {_share(everything.before)} and {_share(everything.after)}; by "
        f"chance it is {percent(effect.chance)}.{advice}{left_out(effect)}"
    )


def left_out(effect: SiteEffect) -> str:
    """Return which sites were not compared; empty if all were."""
    return f" Not compared, with too few persons: {', '.join(effect.left_out)}." if effect.left_out else ""


def _share(share: Estimate) -> str:
    return f"{percent(share.value)} (95\u00a0% interval {100 * share.low:.0f} to {percent(share.high)})"


def percent(share: float, form: str = ".0f") -> str:
    """Return a share in per cent, on one line."""
    return f"{100 * share:{form}}\u00a0%"


def caution(effect: SiteEffect) -> str:
    """Return what limits the statement on sites; empty if nothing does."""
    smallest = min(effect.people, key=lambda site: effect.people[site])
    if effect.people[smallest] >= _MANY:
        return ""
    people = count_of(effect.people[smallest], "person")
    return f"{smallest} has scans of {people} only, so the intervals are wide."


def factor_sentence(factor: Factor) -> str:
    """Return whether a factor was kept, in plain words."""
    name = factor.name.capitalize()
    if factor.correlation is None:
        return f"{name}: nothing can be said; {factor.reason}"
    before, after = factor.correlation.before, factor.correlation.after
    people = ", ".join(f"{site} {count}" for site, count in factor.people.items())
    figures = (
        f"its correlation with the volume of fluid, given the site, is {_correlation(before)} before and "
        f"{_correlation(after)} after (persons: {people})"
    )
    if not factor.is_seen:
        return f"{name} cannot be judged, as it does not clearly show before harmonization either: {figures}."
    if factor.is_kept:
        return f"{name} shows as before, as far as can be seen: {figures}."
    return f"{name} does not show as before: {figures}."


def _correlation(r: Estimate) -> str:
    return f"{r.value:+.2f} ({r.low:+.2f} to {r.high:+.2f})"
