"""`mrharmony demo`: which commands it runs, and how near to the truth their results are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from mrharmony.core.atomic import require_writable
from mrharmony.core.findings import MrharmonyError
from mrharmony.core.progress import track
from mrharmony.core.volume import FloatArray
from mrharmony.evaluate.paired import peak_ratio
from mrharmony.jobs.evaluation_scans import prepared_on_one_grid
from mrharmony.jobs.harmonizing import HarmonizeJob, harmonize_prepared
from mrharmony.jobs.opening import open_job
from mrharmony.jobs.reporting import REPORT
from mrharmony.jobs.result_names import SUFFIX
from mrharmony.methods.rendering import truth_fitted
from mrharmony.networks.settings import require_device
from mrharmony.scans.bids import SESSION, BidsIndex, BidsScan
from mrharmony.scans.folders import entries_of
from mrharmony.scans.names import output_stem
from mrharmony.simulate.cohort_files import is_simulated
from mrharmony.simulate.shipped_head import CREDIT

SCALE = "PSNR in dB inside the brain; more is better, 3 dB more are half the squared error"
MEGABYTES = 200
ABOUT = (
    "A virtual head lies in each of the scanners {scanners}. Then all its scans are made to look as if "
    "{target} had taken them, by the commands that you would type, and compared with what {target} showed.\n"
    "This takes about three minutes on two cores, and about {megabytes} MB in {folder}. A second call goes "
    "on where this one stopped.\n"
    "The anatomy is {credit}; no weights that ship were trained on it. They were trained on simulated "
    "scanners, so that real scans are harder."
)


@dataclass(frozen=True)
class Demo:
    """What the demo takes, and where its files go; the first scanner is the target.

    Raises `MrharmonyError` if the device is `cuda` and there is no GPU.
    """

    folder: Path
    seed: int = 0
    device: str = "auto"
    scanners: tuple[str, ...] = ("mprage-3t", "spgr-1.5t", "tfe-1.5t")
    zoom: float = 1.0  # mm

    def __post_init__(self) -> None:
        require_device(self.device)

    @property
    def target(self) -> str:
        """Name of the scanner that all scans are harmonized to."""
        return self.scanners[0]

    @property
    def scans(self) -> Path:
        """The data set."""
        return self.folder / "scans"

    @property
    def prepared(self) -> Path:
        """What `mrharmony prepare` makes of it."""
        return self.folder / "prepared"

    @property
    def harmonized(self) -> Path:
        """What `mrharmony bids` makes of it."""
        return self.folder / "harmonized"

    def require_place(self) -> None:
        """Make the folder; raise `MrharmonyError` where it is a file, closed, or has what no demo made."""
        is_file = self.folder.exists() and not self.folder.is_dir()
        if not is_file:
            require_writable(self.folder)
        if is_file or self._is_of_somebody():
            raise MrharmonyError(
                f"{self.folder}: the demo makes scans of its own and takes none. Name a new or empty folder; "
                "`mrharmony harmonize` and `mrharmony bids` are for your scans."
            )

    def _is_of_somebody(self) -> bool:
        """Whether something else is in the folder, and no demo was begun beside it."""
        own = (self.scans, self.prepared, self.harmonized)
        others = (path for path in entries_of(self.folder) if path not in own and path.name[0] != ".")
        return any(others) and not is_simulated(self.scans)

    def about(self) -> str:
        """Return what will be done, how long that takes, and what will be written where."""
        return ABOUT.format(
            scanners=", ".join(self.scanners),
            target=self.target,
            folder=self.folder,
            credit=CREDIT,
            megabytes=MEGABYTES,
        )

    def commands(self) -> Iterator[list[str]]:
        """Yield the arguments of each command; those of one may name what the one before it has written."""
        scans, prepared, harmonized = str(self.scans), str(self.prepared), str(self.harmonized)
        heads = ["--extent", "head", "--subjects", "1", "--scanners", ",".join(self.scanners)]
        yield ["simulate", scans, *heads, "--zoom", f"{self.zoom:g}", "--seed", str(self.seed)]
        yield ["check", *map(str, sorted(self.scans.glob("sub-*")))]
        yield ["prepare", scans, prepared]
        device = [] if self.device == "auto" else ["--device", self.device]
        to = ["--to", self.target, "--prepared", prepared, *device]
        yield ["bids", scans, harmonized, "participant", *to]
        yield ["bids", scans, harmonized, "group"]

    def result(self) -> DemoResult:
        """Return how near to the truth the scans of the other scanners have come."""
        by_scanner = {scan.sidecar["Scanner"]: scan for scan in BidsIndex.open(self.scans, SESSION).scans}
        truth, *others = (by_scanner[name] for name in self.scanners)
        job = open_job(None, "histogram", None, self.target)
        rows = [self._row(scan, truth.path, job) for scan in track(others, "comparing")]
        return DemoResult(tuple(rows), self.target, self.harmonized / REPORT)

    def _row(self, scan: BidsScan, truth: Path, by_histogram: HarmonizeJob) -> DemoRow:
        place = scan.path.relative_to(self.scans).parent
        ours = self.harmonized / place / (output_stem(scan.path) + SUFFIX)
        true, made, source = prepared_on_one_grid([truth, ours, scan.path], None, self.prepared)
        aim, inside = true.intensities(), true.brain_mask
        histogram = harmonize_prepared(by_histogram, source)

        def score(intensities: FloatArray) -> float:
            return peak_ratio(float(np.mean(np.square(intensities[inside] - aim[inside], dtype=np.float64))))

        return DemoRow(
            scan.sidecar["Scanner"],
            nothing=score(source.intensities()),
            histogram=score(histogram.intensities()),
            ours=score(made.intensities()),
            limit=score(truth_fitted(source, aim)),
        )


@dataclass(frozen=True)
class DemoRow:
    """How near to the truth a scan is, PSNR in dB: as prepared, after each method, at the most."""

    scanner: str
    nothing: float
    histogram: float
    ours: float
    limit: float  # the lock fitted to the truth


FIGURES = ("nothing", "histogram", "ours", "limit")


@dataclass(frozen=True)
class DemoResult:
    """The demo's figures, and the page that shows its scans."""

    rows: tuple[DemoRow, ...]
    target: str
    page: Path

    @property
    def means(self) -> dict[str, float]:
        """The mean of each figure over the scans."""
        return {name: float(np.mean([getattr(row, name) for row in self.rows])) for name in FIGURES}

    def conclusion(self) -> str:
        """Return what the figures say, in one sentence."""
        ours = self.means["ours"]
        nothing, histogram, limit = (_compared(ours - self.means[n]) for n in FIGURES if n != "ours")
        return (
            f"Over {len(self.rows)} scans mrharmony is {nothing} doing nothing, {histogram} histogram "
            f"matching, and {limit} the most that its lock can give."
        )

    def record(self) -> dict[str, Any]:
        """Return the result for `--json`."""
        return {
            "target": self.target,
            "psnr_db": [asdict(row) for row in self.rows],
            "means": self.means,
            "conclusion": self.conclusion(),
            "page": str(self.page),
        }

    def print(self, console: Console) -> None:
        """Print the page's path, the table, and the conclusion."""
        console.print(f"\nThe scans before and after, on one page: {self.page}\n", soft_wrap=True)
        table = Table(title=f"How near to the true scans of {self.target}", caption=f"{SCALE}.")
        for column in (
            "from",
            "nothing",
            "histogram matching",
            "mrharmony",
            "limit: lock fitted to the truth",
        ):
            table.add_column(column, justify="left" if column == "from" else "right")
        for row in self.rows:
            table.add_row(row.scanner, *(f"{getattr(row, name):.1f}" for name in FIGURES))
        table.add_section()
        table.add_row("mean", *(f"{value:.1f}" for value in self.means.values()))
        console.print(table)
        console.print(self.conclusion(), soft_wrap=True)


def _compared(difference: float) -> str:
    """Return how a figure stands to another one, in words to put before that."""
    if abs(difference) < 0.05:
        return "level with"
    return f"{abs(difference):.1f} dB {'above' if difference > 0 else 'below'}"
