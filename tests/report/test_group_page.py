"""The page of a group: what it tells a stranger, and that it works in a browser without a network."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.pages import assert_accessible, assert_balanced
from mrharmony.evaluate.group_measures import BINS, Measured, MeasuredPair
from mrharmony.jobs.reporting import judge_group
from mrharmony.report.group_page import (
    PICTURES,
    UNKNOWN_SITE,
    GroupRow,
    group_page,
    odd_figures,
    worth_a_picture,
)
from mrharmony.report.thumbnails import thumbnail

SITES = ("Alpha", "Beta", "Gamma")
EACH = 8


def _measured(rng: np.random.Generator, shift: float, fluid_ml: float) -> Measured:
    """Return figures of a brain whose grey values are shifted, as by a scanner."""
    peak = np.exp(-((np.arange(BINS) - 35 - 20 * shift) ** 2) / 50)
    features = rng.normal(shift, 0.3, 241).astype(np.float32)
    return Measured(peak / peak.sum(), features, fluid_ml)


def _rows(each: int = EACH) -> list[GroupRow]:
    """Return scans of three sites that differ before and not after; fluid grows with age in both."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(len(SITES) * each):
        site, age = number % len(SITES), int(rng.integers(20, 80))
        fluid = 100 + 3 * age + rng.normal(0, 5)
        pair = MeasuredPair(_measured(rng, site, fluid), _measured(rng, 0, fluid + rng.normal(0, 2)))
        rows.append(
            GroupRow(
                name=f"sub-{number:02d}",
                subject=f"{number:02d}",
                site=SITES[site],
                verdict="pass",
                target="Alpha",
                figures={"edge_correlation": 0.9 + 0.002 * number, "grey_drift": 0.001 * (number % 7)},
                provenance=(("method", "diffusion"),),
                participant={"age": str(age), "sex": "FM"[number % 2]},
                measured=pair,
            )
        )
    return rows


@pytest.fixture(scope="module")
def rows() -> list[GroupRow]:
    """One scan warns, one fails, one lies apart from its site, one has no result."""
    rows = _rows()
    brain = np.pad(np.ones((20, 24, 20), np.float32), 4)
    picture = thumbnail(brain, brain, brain > 0, (4, 4, 4))
    doubtful = {
        "verdict": "warn",
        "reasons": ("volume of grey matter: 0.060, beyond 0.051",),
        "picture": picture,
    }
    rows[4] = replace(rows[4], figures={"edge_correlation": 0.9, "grey_drift": 0.06}, **doubtful)
    rows[5] = replace(rows[5], verdict="fail", figures={"edge_correlation": 0.5, "grey_drift": 0.0})
    rows[6] = replace(rows[6], figures={"edge_correlation": 0.9, "grey_drift": 0.04})
    return [GroupRow("sub-lost", "lost", "Beta", "refused", "sub-lost.nii.gz: <no> brain was found."), *rows]


@pytest.fixture(scope="module")
def page(rows: list[GroupRow]) -> str:
    done = [row for row in rows if row.status == "done"]
    return group_page("Harmonized scans", rows, judge_group(done), [("table", "group.tsv")])


def _summary(page: str) -> str:
    summary = page[page.index("<ul class='summary'>") : page.index("</ul>")]
    return " ".join(re.sub("<[^>]*>", "", summary).split())


def test_the_page_is_sound_and_names_no_other_file(page: str):
    assert_balanced(page)
    assert "http" not in page
    assert all(source.startswith("data:") for source in re.findall(r"src='([^']*)'", page))


def test_the_summary_says_what_to_look_at_and_what_came_of_sites_and_age(page: str):
    summary = _summary(page)
    assert "24 scans of 3 sites harmonized to Alpha: 22 pass, 1 warn, 1 fail." in summary
    assert "1 scan without a result: why." in summary
    assert "2 scans before you use them: sub-04 (warn), sub-05 (fail)." in summary
    assert "apart from the other scans of its site: sub-06 (volume of grey matter)." in summary
    assert "It went down, and a classifier does not clearly find it in the grey values." in summary
    assert "take the site into account" not in summary
    assert "Age shows as before, as far as can be seen: " in summary
    assert "(persons: Alpha 8, Beta 8, Gamma 8)" in summary
    assert "Sex cannot be judged" in summary


def test_scans_without_a_result_come_first_with_their_sentence(page: str):
    assert "sub-lost.nii.gz: &lt;no&gt; brain was found." in page
    assert page.index("&lt;no&gt;") < page.index("<table")


def test_a_site_effect_that_stays_is_not_said_to_be_gone(rows: list[GroupRow]):
    same = [
        replace(row, measured=MeasuredPair(row.measured.before, row.measured.before), participant={})
        for row in rows
        if row.measured
    ]
    summary = _summary(group_page("Same", same, judge_group(same)))
    assert "Site effect: It did not clearly change." in summary
    assert "100 % (95 % interval" in summary
    assert "So an analysis of these scans has to take the site into account." in summary


def test_a_site_effect_that_is_half_gone_is_told_as_such(rows: list[GroupRow]):
    half = [
        replace(row, measured=row.measured and replace(row.measured, after=row.measured.before))
        if row.site == "Beta"
        else row
        for row in rows
        if row.measured
    ]
    summary = _summary(group_page("Half", half, judge_group(half)))
    assert "Site effect: It went down, but it is not gone." in summary
    assert "take the site into account" in summary


def test_biology_is_not_judged_by_scans_that_stay_as_they_are(rows: list[GroupRow]):
    done = [replace(row, source="Alpha" if row.site == "Alpha" else None) for row in rows if row.measured]
    assert "(persons: Beta 8, Gamma 8)" in _summary(group_page("Few", done, judge_group(done)))
    same = [replace(row, source="Alpha") for row in done]
    sentence = "Age: nothing can be said; of those whose scans were changed, it is known of none"
    assert sentence in _summary(group_page("None", same, judge_group(same)))


def test_of_people_who_travelled_a_scan_that_was_changed_is_judged(rows: list[GroupRow]):
    own, other = ([replace(row, source=site) for row in rows if row.measured] for site in ("Alpha", "Gamma"))
    travelled = [scan for pair in zip(own, other, strict=True) for scan in pair]
    assert "Age shows as before" in _summary(group_page("Travelled", travelled, judge_group(travelled)))


def test_scans_of_the_target_that_a_method_has_changed_are_judged(rows: list[GroupRow]):
    own = [replace(row, source="Alpha") for row in rows if row.measured]
    moved = [replace(row, figures={**row.figures, "mean_change": 0.02}) for row in own]
    assert "Age shows as before" in _summary(group_page("Moved", moved, judge_group(moved)))
    still = [replace(row, figures={**row.figures, "mean_change": 0.0}) for row in own]
    assert "it is known of none" in _summary(group_page("Still", still, judge_group(still)))


def test_age_that_goes_is_not_said_to_be_kept(rows: list[GroupRow]):
    def aged(row: GroupRow) -> GroupRow:
        assert row.measured and row.measured.before
        flat = replace(row.measured.after, fluid_ml=200.0 + 7 * int(row.subject) % 5)
        return replace(row, measured=replace(row.measured, after=flat))

    done = [aged(row) for row in rows if row.measured]
    assert "Age does not show as before" in _summary(group_page("Lost", done, judge_group(done)))


@pytest.mark.parametrize(
    ("chosen", "sentence"),
    [
        (
            slice(0, 6),
            "Too few scans can be compared: two sites with 4 persons each are needed, and there are "
            "Alpha 2, Beta 2, Gamma 2.",
        ),
        (slice(0, None, 3), "All scans come from one site (Alpha): nothing to compare."),
        (slice(0, 0), "Nothing can be said: no scan has both its source and its output here."),
    ],
)
def test_too_few_scans_are_told_in_a_sentence(chosen: slice, sentence: str):
    some = _rows()[chosen]
    assert sentence in _summary(group_page("Few", some, judge_group(some)))


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        ({"target": "Beta"}, "harmonized to several targets (Alpha, Beta)"),
        ({"provenance": (("method", "regional"),)}, "harmonized by several methods (diffusion, regional)"),
        (
            {"provenance": (("method", "diffusion"), ("SHA-256", "f00"))},
            "harmonized with several models, SHA-256 (, f00)",
        ),
    ],
)
def test_scans_that_were_harmonized_differently_are_not_judged_together(other: dict[str, Any], sentence: str):
    mixed = [replace(row, **other) if number % 2 else row for number, row in enumerate(_rows())]
    summary = _summary(group_page("Mixed", mixed, judge_group(mixed)))
    assert f"Nothing can be said: the scans were {sentence}. Write a page on a folder of each." in summary
    assert "Age, sex, group: nothing can be said, for the same reason." in summary


def test_a_site_of_which_no_scan_was_measured_is_told():
    alpha, beta = _rows()[::3], _rows()[1::3]
    lost = [replace(row, status="damaged", verdict=None, measured=None) for row in beta]
    few = [*lost, *alpha]
    assert "needed, and there are Alpha 8, Beta 0." in _summary(group_page("Few", few, judge_group(few)))
    sourceless = [*(replace(row, measured=None) for row in beta), *alpha, *_rows()[2::3]]
    summary = _summary(group_page("Three", sourceless, judge_group(sourceless)))
    assert "Not compared, with too few persons: Beta." in summary


def test_scans_of_unknown_sites_are_not_compared():
    some = [replace(row, site=UNKNOWN_SITE) for row in _rows(2)]
    summary = _summary(group_page("Few", some, judge_group(some)))
    assert "6 scans of unknown sites harmonized to Alpha" in summary
    assert "no scan has a known site" in summary
    lone = _rows()[:-3] + some
    left = [replace(row, site="Delta", participant={}) if n < 2 else row for n, row in enumerate(lone)]
    assert "Not compared, with too few persons: Delta." in _summary(
        group_page("Few", left, judge_group(left))
    )


def test_scans_that_are_all_alike_have_none_apart():
    alike = [replace(row, figures={"edge_correlation": 1 - 1e-6 * n**3}) for n, row in enumerate(_rows())]
    assert odd_figures(alike) == {}
    alike[3] = replace(alike[3], figures={"edge_correlation": 0.9})
    assert odd_figures(alike) == {3: ["edges"]}


def test_columns_that_tell_too_little_are_named(rows: list[GroupRow]):
    done = [replace(row, participant={"age": "n/k", "group": "patient"}) for row in rows if row.measured]
    summary = _summary(group_page("Few", done, judge_group(done)))
    assert "it is known of none; 12 are needed." in summary
    assert (
        "Group: nothing can be said; two values can be compared, and these persons have: patient." in summary
    )


def test_pictures_are_of_doubtful_scans_first_and_bounded():
    many = _rows(400)
    many[-1] = replace(many[-1], verdict="fail")
    chosen = worth_a_picture(many)
    assert len(chosen) <= PICTURES
    assert {0, 1, 2, len(many) - 1} <= set(chosen)
    warned = [replace(row, verdict="warn") for row in many]
    assert len(worth_a_picture(warned)) == PICTURES


def test_a_thousand_scans_stay_below_five_megabytes():
    picture = "data:image/webp;base64," + "A" * 15_000
    many = [
        replace(row, measured=None, picture=picture if n < PICTURES else None)
        for n, row in enumerate(_rows(334))
    ]
    figures = {f"figure_{n}": 0.5 for n in range(11)}
    many = [replace(row, figures=figures) for row in many]
    assert len(group_page("Many", many, judge_group(many))) < 5_000_000


@pytest.fixture
def opened(open_page: Any, page: str, tmp_path: Path) -> Any:
    """The page in a browser."""
    (tmp_path / "report.html").write_text(page, "utf-8")
    return open_page(tmp_path / "report.html")


def _names(tab: Any) -> list[str]:
    return [
        str(name)
        for name in tab.locator("#scans tbody tr:visible th").evaluate_all(
            "all => all.map(h => h.dataset.value)"
        )
    ]


def test_a_heading_sorts_both_ways_by_keyboard(opened: Any):
    head = opened.locator("#scans thead th", has_text="edges")
    head.locator("button").focus()
    opened.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    assert _names(opened)[0] == "sub-05"
    opened.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    assert _names(opened)[0] == "sub-23"
    assert _names(opened)[-1] == "sub-05"


def test_filters_narrow_the_table_and_say_so(opened: Any):
    opened.select_option("#by-verdict", "look")
    assert _names(opened) == ["sub-04", "sub-05", "sub-06"]
    opened.select_option("#by-site", "Gamma")
    assert _names(opened) == ["sub-05"]
    assert opened.inner_text("#shown") == "1 of 24 scans"
    opened.click("#clear")
    opened.fill("#search", "grey matter")
    assert _names(opened) == ["sub-04", "sub-06"]


def test_a_point_and_a_name_lead_to_the_row_even_if_it_is_filtered_out(opened: Any):
    opened.select_option("#by-site", "Gamma")
    opened.locator(".strips a[href='#row-4']").first.focus()
    opened.keyboard.press("Enter")
    assert opened.evaluate("document.activeElement.id") == "row-4"
    assert opened.is_visible("#row-4 details img")
    opened.locator(".strips use[data-row='7']").first.dispatch_event("click")
    assert opened.evaluate("document.activeElement.id") == "row-7"
    opened.click(".summary a[href='#row-6']")
    assert opened.locator("tr.here").get_attribute("id") == "row-6"


def test_the_page_fits_a_telephone(opened: Any):
    opened.set_viewport_size({"width": 400, "height": 800})
    assert opened.evaluate("document.documentElement.scrollWidth") <= 400


def test_nothing_hinders_people_with_disabilities(opened: Any):
    assert_accessible(opened)
