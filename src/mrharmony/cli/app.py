"""The application: what all commands share, and the one place where failures become sentences."""

from __future__ import annotations

import logging
import re
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mrharmony.core.findings import MrharmonyError
from mrharmony.core.version import __version__
from mrharmony.methods.registry import METHOD_NAMES, METHODS
from mrharmony.weights import shipped_model

OK, UNEXPECTED, USAGE, REFUSED, INTERRUPTED = 0, 1, 2, 3, 130

app = typer.Typer(
    name="mrharmony",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "Make T1-weighted brain scans of any scanner look as if another scanner had taken them. "
        "Anatomy and voxel grid stay what they are.\n\n"
        "**New here?** `mrharmony demo` shows the whole way on virtual scanners. Then look at your own scans "
        "with `mrharmony check SCAN...`, and harmonize one: "
        "`mrharmony harmonize SCAN --to NSK --output OUT`. "
        "`mrharmony domains` lists what `--to` knows.\n\n"
        "Exit status: 0 all done, 1 unexpected, 2 usage, 3 some scans refused. Research use only."
    ),
)

Seed = Annotated[int, typer.Option(min=0, help="Everything random comes from this number.")]
Json = Annotated[
    bool, typer.Option("--json", metavar="", help="Print the result as JSON on standard output.")
]
Model = Annotated[
    Path | None,
    typer.Option(help="Model directory; the one that ships with mrharmony if not given.", show_default=False),
]
AssumeRas = Annotated[
    bool,
    typer.Option(
        "--assume-ras",
        metavar="",
        help="Take scans whose header tells no orientation for RAS, at your own risk.",
    ),
]
Device = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where diffusion models run.")]
if TYPE_CHECKING:
    MethodName = str
    TrainedMethod = str
else:
    MethodName = Literal[METHOD_NAMES]
    TrainedMethod = Literal[tuple(method.name for method in METHODS if method.needs.training)]


def _method_help() -> str:
    ready = [method for method in METHODS if method.is_in(shipped_model())]
    others = ", ".join(method.name for method in METHODS if method not in ready)
    described = "; ".join(f"{method.name}: {method.description}" for method in ready)
    return f"{described}. To be fitted first, by mrharmony train --method: {others}."


Method = Annotated[MethodName, typer.Option(help=_method_help())]
Force = Annotated[bool, typer.Option("--force", metavar="", help="Write scans too whose verdict is fail.")]
Uncertainty = Annotated[
    bool,
    typer.Option(
        "--uncertainty",
        metavar="",
        help="Write a map beside each scan of how far its intensities move over several seeds.",
    ),
]
Detail = Annotated[
    bool,
    typer.Option(
        "--detail",
        metavar="",
        help="After the lock, filter sharpness and noise toward the target's, within bounds. Anatomy is then "
        "not locked in the strict sense.",
    ),
]
Verbose = Annotated[
    bool,
    typer.Option("-v", "--verbose", metavar="", help="Show a traceback when something unexpected happens."),
]
DomainColumn = Annotated[
    str, typer.Option(help="Column of participants.tsv that names the domain, or `session`.")
]
UsualColumn = Annotated[
    str | None,
    typer.Option(
        help="Column of participants.tsv that names the domain, or `session`; `site` if it is there.",
        show_default=False,
    ),
]
Series = Annotated[
    int | None, typer.Option(help="Number of the T1w series in a DICOM folder, where it is not clear.")
]
Prepared = Annotated[
    Path | None,
    typer.Option(
        help="Folder of `mrharmony prepare`: its masks and alignments are taken, nothing is redone.",
        exists=True,
        file_okay=False,
    ),
]


@app.callback(invoke_without_command=True)
def common(
    version: Annotated[bool, typer.Option("--version", metavar="", help="Print the version.")] = False,
    verbose: Verbose = False,
) -> None:
    """Take the options that belong to every command."""
    del verbose  # read by `main` from the arguments, so that it also covers what happens before this
    if version:
        typer.echo(f"mrharmony {__version__}")
        raise typer.Exit(OK)


def require_one(mask: Path | None, prepared: Path | None) -> None:
    """Refuse a mask beside a folder that has the masks.

    Raises
    ------
    MrharmonyError
        If both are given.
    """
    if mask and prepared:
        raise MrharmonyError(
            f"{mask}: the masks are those of {prepared}. Give --mask or --prepared, not both."
        )


def in_options(sentence: str) -> str:
    """Return a sentence of the library with its arguments as options: `lock=False` becomes `--no-lock`."""
    return _ARGUMENT.sub(_option, sentence)


_ARGUMENT = re.compile(r"\b([a-z_]+)=(True|False|\.\.\.|'[^']*'|\[\([^)]*\)\])")
_RENAMED = {"source": "from", "target": "to", "pairs": "pair"}


def _option(argument: re.Match[str]) -> str:
    name, value = _RENAMED.get(argument[1], argument[1]).replace("_", "-"), argument[2]
    if value == "False":
        return f"--no-{name}"
    words = re.findall(r"'([^']*)'", value)
    return " ".join([f"--{name}", *words])


def main() -> None:
    """Run the command line: every failure ends in one sentence and a status that says what kind it was."""
    verbose = bool({"-v", "--verbose"} & set(sys.argv[1:]))
    arguments = [argument for argument in sys.argv[1:] if argument not in ("-v", "--verbose")]
    if not verbose:
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
    try:
        app(arguments)
    except MrharmonyError as error:
        print(f"mrharmony: {in_options(str(error))}", file=sys.stderr)
        sys.exit(USAGE)
    except SystemExit as end:
        if end.code == INTERRUPTED:
            print("mrharmony: interrupted. What is finished stays; call again to go on.", file=sys.stderr)
        raise
    except Exception as error:
        if verbose:
            raise
        print(f"mrharmony: unexpected {type(error).__name__}: {error}. Use -v for details.", file=sys.stderr)
        sys.exit(UNEXPECTED)
