"""The table says the same in Markdown, CSV and JSON."""

import csv
import json
from pathlib import Path

from mrharmony.benchmark.table import draw_figure, markdown, write_tables

ROWS = [
    {
        "method": "none",
        "psnr": 20.504,
        "gain": 1.0,
        "gain_low": 0.5,
        "gain_high": 1.5,
        "seconds": 0.1,
        "seed": 0,
    },
    {"method": "ours", "psnr": None, "seconds": 3.0, "seed": 0},
]


def test_the_three_files_hold_the_same_figures(tmp_path: Path):
    write_tables(tmp_path, "A title", ROWS, {"about": {"Command": "`x`"}, "directions": []})
    table = list(csv.DictReader((tmp_path / "benchmark.csv").open(encoding="utf-8")))
    record = json.loads((tmp_path / "benchmark.json").read_text("utf-8"))
    assert float(table[0]["psnr"]) == record["rows"][0]["psnr"] == 20.504
    assert "| none | 20.50 |" in (tmp_path / "benchmark.md").read_text("utf-8")


def test_a_missing_figure_is_told_and_an_empty_column_left_out():
    text = markdown(ROWS)
    assert "| ours | n/a |" in text
    assert "SSIM" not in text


def test_every_column_shown_is_explained():
    text = markdown(ROWS)
    for heading in ("PSNR dB", "s a scan"):
        assert f"- {heading}: " in text


def test_the_figure_is_drawn(tmp_path: Path):
    draw_figure(tmp_path / "figure.png", "A title", ROWS, "ours")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
