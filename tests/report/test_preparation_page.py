import base64
import io
import re

import numpy as np
import pytest
from matplotlib.image import imread

from helpers.pages import assert_accessible, assert_balanced
from mrharmony.core.findings import Finding
from mrharmony.core.volume import Volume
from mrharmony.preparation.prepared import PreparedScan
from mrharmony.preparation.quality import preparation_figures
from mrharmony.report.preparation_page import IndexRow, index_page, preparation_page, thumbnail

FINDING = Finding("warning", "a-code", "The brain <is> cut.", "Look at it.")


@pytest.fixture(scope="module")
def prepared() -> PreparedScan:
    """A bright ellipsoid as a brain, LPI order and 4 × 4 × 5 mm; the mask is too large in the left half."""
    affine = np.diag([-4.0, -4.0, -5.0, 1.0])
    affine[:3, 3] = (90, 90, 90)
    indices = np.moveaxis(np.indices((46, 50, 38)), 0, -1)
    world = indices @ affine[:3, :3] + affine[:3, 3]
    inside = np.linalg.norm((world - (0, -17, 5)) / (65, 80, 60), axis=-1)
    left = world[..., 0] < 0
    mask = inside < np.where(left, 1.15, 1.0)
    voxels = np.where(inside < 1, 800.0, 40.0).astype(np.float32)
    return PreparedScan(
        Volume(voxels, affine), mask, np.ones_like(voxels), np.eye(4), 800.0, False, (FINDING,)
    )


@pytest.fixture(scope="module")
def page(prepared: PreparedScan) -> str:
    return preparation_page("sub-<1>", prepared, preparation_figures(prepared), "warned", (FINDING,))


def _images(page: str) -> list[np.ndarray]:
    found = re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)", page)
    return [imread(io.BytesIO(base64.b64decode(data)))[..., :3] for data in found]


def test_a_page_needs_nothing_else_and_is_sound_html(page: str):
    sources = re.findall(r"(?:src|href)='([^']*)'", page)
    assert len(sources) == 2
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert "http" not in page
    assert_balanced(page)


def test_a_page_tells_figures_and_findings_and_escapes_names(page: str, prepared: PreparedScan):
    millilitres = prepared.brain_mask.sum() * 4 * 4 * 5 / 1000
    assert f"{millilitres:.0f} ml" in page
    assert "(usual: at least 0.90)" in page
    assert "warned" in page
    assert "The brain &lt;is&gt; cut. Look at it." in page
    assert "sub-&lt;1&gt;" in page
    assert "<is>" not in page


def test_the_outline_is_where_the_mask_leaves_the_brain(page: str):
    """In axial slices, seen from below the feet's side: left is left, so dark mask lies on the left only."""
    native, _ = _images(page)
    height = native.shape[0] // 3
    axial = native[2 * height :, 2 * native.shape[1] // 6 : 3 * native.shape[1] // 6]
    red = (axial[..., 0] - axial[..., 1]) > 0.4
    white = axial.min(axis=-1) > 0.6
    row = axial.shape[0] // 2
    columns, brain = np.flatnonzero(red[row - 1 : row + 2].any(axis=0)), np.flatnonzero(white[row])
    assert brain.min() - columns.min() > 8
    assert abs(columns.max() - brain.max()) < 6


def test_a_thumbnail_is_small(prepared: PreparedScan):
    assert len(thumbnail(prepared)) < 40_000


def test_the_index_begins_with_what_needs_a_look():
    rows = [
        IndexRow("sub-1", "passed", "", "sub-1/page.html", None),
        IndexRow("sub-2", "refused", "no brain & no head", None, None),
        IndexRow("sub-3", "warned", "cut", "sub-3/page.html", "data:image/png;base64,AAAA"),
    ]
    page = index_page("Prepared scans", rows)
    assert page.index("sub-2") < page.index("sub-3") < page.index("sub-1")
    assert "1 passed, 1 warned, 1 refused" in page
    assert "no brain &amp; no head" in page
    assert page.count("href=") == 2


def test_both_pages_work_in_a_browser_and_for_everybody(
    open_page, page: str, prepared: PreparedScan, tmp_path
):
    rows = [
        IndexRow("sub-1", "warned", "cut", "page.html", thumbnail(prepared)),
        IndexRow("sub-2", "refused", "no brain", None, None),
    ]
    (tmp_path / "page.html").write_text(page, "utf-8")
    (tmp_path / "index.html").write_text(index_page("Prepared scans", rows), "utf-8")
    for name in ("page.html", "index.html"):
        tab = open_page(tmp_path / name)
        assert_accessible(tab)
        tab.set_viewport_size({"width": 400, "height": 800})
        assert tab.evaluate("document.documentElement.scrollWidth") <= 400
