"""Options that several commands share, alone and in groups, each written once."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, get_type_hints

import typer

from mrharmony.cli.app import one_of
from mrharmony.core.findings import MrharmonyError
from mrharmony.methods.registry import DEFAULT_METHOD, METHOD_NAMES, METHODS
from mrharmony.weights import shipped_model

if TYPE_CHECKING:
    from mrharmony.jobs.data_sets import DataSet
    from mrharmony.jobs.harmonizing import HarmonizeJob


ADVANCED, RESEARCH = "Advanced options", "Options for research"  # panels of the help


def flag(name: str, text: str, panel: str | None = None) -> object:
    """Return an option that is on where it is named."""
    return typer.Option(name, metavar="", help=text, rich_help_panel=panel)


Seed = Annotated[int, typer.Option(min=0, help="Everything random comes from this number.")]
Extent = Annotated[
    Literal["brain", "head"], typer.Option(help="brain: 0 outside the brain; head: all voxels.")
]
Json = Annotated[bool, flag("--json", "Print the result as JSON on standard output.")]
Model = Annotated[
    Path | None, typer.Option(help="Model directory; the one that ships with mrharmony if not given.")
]
AssumeRas = Annotated[
    bool, flag("--assume-ras", "Take scans whose header gives no orientation for RAS, at your own risk.")
]
Device = Annotated[
    Literal["auto", "cpu", "cuda"],
    typer.Option(help="Where img2img runs and networks are trained; other work runs on the processor."),
]


def _method_help() -> str:
    ready = [method for method in METHODS if method.is_in(shipped_model())]
    others = ", ".join(method.name for method in METHODS if method not in ready)
    described = "; ".join(f"{method.name}: {method.description}" for method in ready)
    return f"{described}. To be fitted first, by mrharmony train --method: {others}."


Method = Annotated[str, typer.Option(parser=one_of(METHOD_NAMES), metavar="METHOD", help=_method_help())]
DomainColumn = Annotated[
    str, typer.Option(help="Column of participants.tsv that names the domain, or `session`.")
]
UsualColumn = Annotated[
    str | None,
    typer.Option(help="Column of participants.tsv with the domain, or `session`; `site` if it is there."),
]
Only = Annotated[list[str] | None, typer.Option("--domain", help="Use only this domain; may be repeated.")]
Participants = Annotated[
    list[str] | None, typer.Option(help="Only this participant, with or without sub-; may be repeated.")
]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Processes that prepare scans; one a core if not given.")
]
Series = Annotated[
    str | None,
    typer.Option(
        help="Number of the T1w series in a DICOM folder, where it is not clear; as listed (`4/TE3.5`) where "
        "several images have that number."
    ),
]
Prepared = Annotated[
    Path | None,
    typer.Option(
        help="Folder of `mrharmony prepare`: its masks and alignments are taken, nothing is redone.",
        exists=True,
        file_okay=False,
    ),
]
Mask = Annotated[
    Path | None, typer.Option(help="Brain mask on the scan's grid; mrharmony finds the brain if not given.")
]


_TO = (
    "Domain that the scans are harmonized to; see `mrharmony domains`. Or a T1w protocol: a BIDS sidecar "
    "(`protocol.json`), or a sentence like `mprage 3T TR=2300 TI=900 TE=3 FA=9`."
)
To = Annotated[str, typer.Option(help=_TO)]


def target_option(more: str) -> object:
    """Return the option `--to`, with a remark of a command."""
    return typer.Option(help=_TO + more)


class DataOptions(NamedTuple):
    """Which scans of a data set are used, and where their preparations lie."""

    domain_column: DomainColumn = "site"
    only: Only = None
    prepared: Prepared = None

    def of(self, bids_dir: Path) -> DataSet:
        """Return these scans of a data set."""
        from mrharmony.jobs.data_sets import DataSet

        return DataSet(bids_dir, self.domain_column, self.only or (), self.prepared)


class HarmonizeOptions(NamedTuple):
    """How scans are harmonized, whether one by one or as a data set."""

    model: Model = None
    method: Method = DEFAULT_METHOD
    prepared: Prepared = None
    translation: Annotated[
        str | None,
        typer.Option(
            help="Of img2img: `paper` (Table 1 of Ikegami et al.), or a YAML file of settings.",
            rich_help_panel=RESEARCH,
        ),
    ] = None
    detail: Annotated[
        bool,
        flag(
            "--detail",
            "After the lock, filter sharpness and noise toward the target's, within bounds. Anatomy is then "
            "not locked in the strict sense.",
            RESEARCH,
        ),
    ] = False
    uncertainty: Annotated[
        bool,
        flag(
            "--uncertainty",
            "Write a map beside each scan of how far its intensities move over several heads that it allows.",
            RESEARCH,
        ),
    ] = False
    page: Annotated[
        bool,
        flag(
            "--page", "Write a page that shows each harmonized scan (HTML, about 1 MB; takes some seconds)."
        ),
    ] = False
    viewer: Annotated[
        Path | None,
        typer.Option(
            help="NiiVue's `niivue.umd.js` (`npm pack @niivue/niivue`): write a page, and put this viewer "
            "with both volumes into it. Up to 8 MB a page.",
            rich_help_panel=ADVANCED,
        ),
    ] = None
    force: Annotated[bool, flag("--force", "Write scans too whose verdict is fail.", ADVANCED)] = False
    overwrite: Annotated[
        bool,
        flag(
            "--overwrite", "Replace results of another target or other settings, and foreign files.", ADVANCED
        ),
    ] = False
    seed: Seed = 0
    device: Device = "auto"

    def open_job(
        self,
        target: str,
        source: str | None = None,
        *,
        extent: Literal["brain", "head"] = "brain",
        lock: bool | None = None,
        assume_ras: bool = False,
    ) -> HarmonizeJob:
        """Return the job that these options describe; `extent` and `lock` are as in `MethodSettings`.

        Raises `MrharmonyError` if an option is out of range or not of the method, or the model or a domain is
        not there.
        """
        from mrharmony.jobs.opening import open_job
        from mrharmony.methods.protocol import MethodSettings
        from mrharmony.networks.translation import read_translation

        translation = read_translation(self.translation) if self.translation else None
        if self.viewer:
            from mrharmony.report.volume_viewer import niivue_script

            niivue_script(self.viewer)
        settings = MethodSettings(self.seed, self.device, extent, lock, self.detail, translation)
        job = open_job(self.model, self.method, source, target, settings, assume_ras=assume_ras)
        return replace(
            job,
            prepared=self.prepared,
            force=self.force,
            overwrite=self.overwrite,
            uncertainty=self.uncertainty,
            page=self.page or self.viewer is not None,
            viewer=self.viewer,
        )


def with_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command take groups of options: a parameter that is a `NamedTuple` stands for its fields."""
    hints = get_type_hints(command, include_extras=True)
    groups = {name: hint for name, hint in hints.items() if hasattr(hint, "_fields")}

    @wraps(command)
    def flat(**given: Any) -> None:
        for name, group in groups.items():
            given[name] = group(**{field: given.pop(field) for field in group._fields})
        command(**given)

    parameters = []
    for name, parameter in inspect.signature(command).parameters.items():
        own = {name: (hints[name], parameter.default)}
        if group := groups.get(name):
            fields = get_type_hints(group, include_extras=True)
            own = {f: (fields[f], group._field_defaults.get(f, parameter.empty)) for f in group._fields}
        parameters += [
            inspect.Parameter(key, parameter.KEYWORD_ONLY, default=default, annotation=hint)
            for key, (hint, default) in own.items()
        ]
    del flat.__wrapped__  # typer reads the signature of what is wrapped
    flat.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    flat.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return flat


def require_one(own: Path | None, prepared: Path | None, option: str = "--mask") -> None:
    """Raise `MrharmonyError` where masks are given by an option beside a folder that has the masks."""
    if own and prepared:
        raise MrharmonyError(f"{own}: masks are those of {prepared}. Give {option} or --prepared, not both.")
