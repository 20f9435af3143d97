"""Names that others chose do not break the tables that are written in Markdown, and are shown as they are."""

import re
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from markupsafe import Markup

from mrharmony.benchmark.table import write_tables
from mrharmony.core.markdown import escaped, markdown_table
from mrharmony.evaluate.paper import PaperRow, SliceScores, paper_table
from mrharmony.networks.card import DomainCard, ModelCard
from mrharmony.networks.compact.model import model_card_text

NAMES = [
    "a|b",
    "*x*",
    "`x`",
    "<b>",
    "_x_",
    "__y__",
    "mprage_3t",
    "[a](b)",
    "&lt;",
    "a\\|b",
    "~~z~~",
    "a\nb",
    "# c",
]


def shown(markdown: str) -> list[str]:
    """Return what the cells of the tables in a document show."""
    page = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(markdown)
    cells = re.findall(r"<t[hd](?: [^>]*)?>(.*?)</t[hd]>", page, re.DOTALL)
    assert not any("<" in cell for cell in cells)
    return [Markup(cell).unescape() for cell in cells]


@pytest.mark.parametrize("name", NAMES)
def test_a_cell_shows_a_name_as_it_is(name: str):
    seen = name.replace("\n", "\\n")
    assert shown(markdown_table(("site", name), [(name, "1")], [1])) == ["site", seen, seen, "1"]


def test_usual_names_stay_readable():
    assert escaped("sub-01_ses-mprage3t_T1w.nii.gz, 3 & 4") == "sub-01_ses-mprage3t_T1w.nii.gz, 3 & 4"


def test_the_tables_of_the_commands_show_names_as_they_are(tmp_path: Path):
    name = "a|*b*"
    card = ModelCard(
        domains=(DomainCard(name=name, prompt=name, scans=2),),
        working_zoom=2.0,
        intensity_convention="",
        training_data=name,
        licence="",
    )
    assert name in shown(model_card_text(card))
    scores = SliceScores(ssim=1, ssim_sd=0, ssim_best=1, mse=0, mse_sd=0, mse_best=0, images=1)
    assert name in shown(paper_table([PaperRow(name, "none", scores)]))
    write_tables(tmp_path, name, [{"method": name, "psnr": 1.0}], {"about": {"Target": name}})
    text = (tmp_path / "benchmark.md").read_text("utf-8")
    assert name in shown(text)
    assert f"# {escaped(name)}\n" in text
    assert f"- Target: {escaped(name)}\n" in text
