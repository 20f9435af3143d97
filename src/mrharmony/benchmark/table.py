"""The table of a benchmark, as Markdown, CSV and JSON, and its figure: every method's main scores."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.table import Table

from mrharmony.core.atomic import write_file, write_json, write_text
from mrharmony.core.markdown import escaped, markdown_table

Row = Mapping[str, Any]
MISSING = "n/a"


class Column(NamedTuple):
    """A column of the table: key in the row, heading, format, and meaning."""

    key: str
    heading: str
    form: str
    meaning: str


COLUMNS = (
    Column("method", "method", "", "its name; the truth-fitted lock needs the truth"),
    Column("directions", "directions", "d", "directions with a truth that the method serves"),
    Column("psnr", "PSNR dB", ".2f", "mean over directions, inside the brain, data range 1 canonical unit"),
    Column("gain", "gain dB", "+.2f", "PSNR above the identically prepared, unharmonized scans"),
    Column("gain_low", "from", "+.2f", "lower end of the gain's 95 % bootstrap interval over heads"),
    Column("gain_high", "to", "+.2f", "upper end"),
    Column("room", "room", ".0%", "share of the way from the best simple method to the truth-fitted lock"),
    Column("below_best", "below", "d", "directions below the best simple method of that direction"),
    Column("worst_gap", "worst dB", "+.2f", "least distance to that method over the directions"),
    Column("ssim", "SSIM", ".4f", "mean over directions, inside the brain"),
    Column("mse", "MSE", ".5f", "mean over directions, squared canonical units"),
    Column("identity_ssim", "identity SSIM", ".4f", "scans harmonized to their own domain"),
    Column("probe_linear", "site, linear", ".2f", "balanced accuracy of a retrained linear site classifier"),
    Column("probe_cnn", "site, CNN", ".2f", "balanced accuracy of a retrained small CNN on slices"),
    Column("probe_cnn_trained", "CNN trained", ".2f", "its accuracy on the scans that it was trained on"),
    Column("chance", "chance", ".2f", "1 / number of sites"),
    Column("probe_linear_control", "shuffled", ".2f", "the linear classifier with shuffled labels"),
    Column("probe_cnn_control", "CNN shuffled", ".2f", "the CNN with shuffled labels, of raw scans alone"),
    Column("probe_linear_frozen", "frozen", ".2f", "the classifier of raw scans applied to harmonized ones"),
    Column("wasserstein", "W₁", ".4f", "Wasserstein distance of tissue histograms, mean over site pairs"),
    Column("mmd", "MMD²", ".4f", "unbiased squared maximum mean discrepancy of site features"),
    Column("fid", "FID", ".3f", "Fréchet distance of fixed filter features of slices, mean over site pairs"),
    Column("kid", "KID", ".4f", "kernel distance of the same features"),
    Column(
        "drift", "drift %", ".2f", "median of the greatest drift of a tissue, home scans away from the target"
    ),
    Column("drift_95", "95th", ".2f", "95th percentile of that drift"),
    Column("dice", "Dice", ".3f", "mean over tissues and these scans, before and after"),
    Column("edges", "edges", ".3f", "edge correspondence of these scans, before and after"),
    Column("slope", "slope", ".2f", "slope of log ventricle volume on its factor, over that of the truth"),
    Column("rank", "rank", ".2f", "Spearman correlation of measured and true ventricle volume"),
    Column("group", "group", ".2f", "Cohen's d of the two groups, over that of the truth"),
    Column("ventricle_error", "vent. error", ".3f", "mean absolute error of log ventricle volume in them"),
    Column("site_shift", "site shift", ".3f", "range over sites of the mean error of log ventricle volume"),
    Column(
        "partial", "partial r", "+.2f", "correlation of age and log ventricle volume in them, given the site"
    ),
    Column("cohen", "Cohen's d", "+.2f", "of the two groups' log ventricle volume in them, within sites"),
    Column("leak", "leak", ".2f", "greatest correlation with the true scan's noise; honest to 0.3"),
    Column("seconds", "s a scan", ".2f", "one process, one thread, after preparation and fitting"),
    Column("fit_seconds", "fit s", ".1f", "fitting on all training scans"),
    Column("networks", "models", "d", "trained models that bring all domains to one target"),
    Column("networks_all", "all", "d", "trained models that serve all directions"),
    Column("training_minutes", "train min", ".1f", "processor minutes of training for one target, a fold"),
    Column("peak_mib", "MiB", ".0f", "greatest memory of the process"),
    Column("refused", "refused", "d", "scans and targets that the method cannot serve"),
)
TERMINAL = ("method", "psnr", "ssim", "probe_linear", "drift", "edges", "slope", "seconds")


def markdown(rows: Sequence[Row]) -> str:
    """Return the table in Markdown, with the meaning of each column below it; empty columns are left out."""
    shown = _filled(rows)
    figures = [number for number, column in enumerate(shown) if column.key != "method"]
    cells = ([_cell(row, column) for column in shown] for row in rows)
    table = markdown_table([column.heading for column in shown], cells, figures)
    legend = "".join(f"- {column.heading}: {column.meaning}.\n" for column in shown)
    return f"{table}\n{legend}"


def terminal_table(rows: Sequence[Row]) -> Table:
    """Return the figures that fit on a terminal; the files have all of them."""
    shown = [column for column in _filled(rows) if column.key in TERMINAL]
    table = Table()
    for column in shown:
        table.add_column(column.heading, justify="left" if column.key == "method" else "right")
    for row in rows:
        table.add_row(*(_cell(row, column) for column in shown))
    return table


def csv_text(rows: Sequence[Row]) -> str:
    """Return all figures of all rows as CSV, unrounded."""
    keys = [column.key for column in COLUMNS]
    stream = io.StringIO()
    writer = csv.DictWriter(stream, [*keys, "command", "seed"], extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: MISSING if value is None else value for key, value in row.items()} for row in rows)
    return stream.getvalue()


def write_tables(folder: Path, title: str, rows: Sequence[Row], record: Mapping[str, Any]) -> None:
    """Write `benchmark.md`, `benchmark.csv` and `benchmark.json` into a folder."""
    about = record["about"].items()  # the command is code already
    notes = "\n".join(f"- {name}: {value if name == 'Command' else escaped(value)}" for name, value in about)
    write_text(folder / "benchmark.md", f"# {escaped(title)}\n\n{notes}\n\n{markdown(rows)}")
    write_text(folder / "benchmark.csv", csv_text(rows))
    write_json(folder / "benchmark.json", {**record, "rows": list(rows)})


def _filled(rows: Sequence[Row]) -> list[Column]:
    return [column for column in COLUMNS if any(row.get(column.key) is not None for row in rows)]


def _cell(row: Row, column: Column) -> str:
    value = row.get(column.key)
    return MISSING if value is None else format(value, column.form)


# Key, heading, the value of a perfect method.
PANELS = (
    ("gain", "PSNR gain dB (more is better)", 0.0),
    ("probe_linear", "retrained site probe (less is better)", None),
    ("drift", "tissue-volume drift % (less is better)", 0.0),
    ("slope", "ventricle slope kept (1 is right)", 1.0),
)
_OURS, _OTHER = "#c1440e", "#4a6fa5"


def draw_figure(path: Path, title: str, rows: Sequence[Row], ours: str) -> None:
    """Write a PNG with a panel for each main score that some row of the table has; `ours` is highlighted."""
    panels = [panel for panel in PANELS if any(row.get(panel[0]) is not None for row in rows)]
    figure = Figure(figsize=(3.4 * len(panels) + 1.2, 0.3 * len(rows) + 1.2), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, len(panels), sharey=True))
    for (key, heading, perfect), axis in zip(panels, axes, strict=True):
        _draw_panel(axis, rows, key, ours)
        axis.set_title(heading, fontsize=9)
        if perfect is not None:
            axis.axvline(perfect, color="grey", linewidth=0.8)
    axes[0].set_yticks(range(len(rows)), [str(row["method"]) for row in rows], fontsize=8)
    axes[0].invert_yaxis()
    figure.suptitle(title, fontsize=10)
    write_file(path, FigureCanvasAgg(figure).print_png)


def _draw_panel(axis: Axes, rows: Sequence[Row], key: str, ours: str) -> None:
    for place, row in enumerate(rows):
        value = row.get(key)
        if value is None:
            continue
        axis.plot(value, place, "o", color=_OURS if row["method"] == ours else _OTHER)
        if key == "gain":
            axis.plot([row["gain_low"], row["gain_high"]], [place, place], color=_OTHER, linewidth=1)
    axis.grid(axis="x", alpha=0.3)
