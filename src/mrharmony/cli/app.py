"""The application: what all commands share, and the one place where failures become sentences."""

from __future__ import annotations

import errno
import io
import json
import logging
import re
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from functools import wraps
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar, get_args, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup
from typer.models import OptionInfo

from mrharmony.core.ending import PREPARE_FIRST, START_OVER, note_remedy, remedy
from mrharmony.core.findings import MrharmonyError, of_the_system
from mrharmony.core.version import __version__
from mrharmony.methods.registry import OLD_NAMES

LABEL_OPTIONS = ("--participant-label", "--session-label")
_MAY_BE_EMPTY = "--slurm-prefix"
OK, UNEXPECTED, USAGE, REFUSED, INTERRUPTED, NO_READER = 0, 1, 2, 3, 130, 141
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
_WORDS = {Path: "PATH", str: "TEXT", int: "NUMBER", float: "NUMBER"}  # for values, in the help

Function = TypeVar("Function", bound=Callable[..., Any])


class _Quiet:
    """A command whose help names no type beside `--help`."""

    def get_help_option(self, context: Any) -> Any:
        """Return the option `--help`."""
        option = super().get_help_option(context)  # type: ignore[misc]
        option.metavar = ""
        return option


class _Command(_Quiet, TyperCommand):
    """A command that takes no option of one value twice: which value counts would not be clear."""

    def parse_args(self, context: Any, args: list[str]) -> list[str]:
        """Read the arguments; raises `MrharmonyError` where such an option is repeated."""
        *_, given = self.make_parser(context).parse_args(args=list(args))
        for option, times in Counter(given).items():
            if times > 1 and option.param_type_name == "option" and _has_one_value(option):
                names = [max(names, key=len) for names in (option.opts, option.secondary_opts) if names]
                raise MrharmonyError(
                    f"{'/'.join(names)}: is given {times} times, but takes one value. Give it once."
                )
        return super().parse_args(context, args)


def _has_one_value(option: Any) -> bool:
    """Whether only the last of several values would count; a switch that is only on may stand twice."""
    return not option.multiple and (not option.is_flag or bool(option.secondary_opts))


class _Group(_Quiet, TyperGroup):
    """Several commands."""


class Commands(typer.Typer):
    """Commands that read their arguments alike, and whose help has words for what their options take."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(cls=_Group, **settings)

    def command(
        self, name: str | None = None, *, ended: str = START_OVER, **settings: Any
    ) -> Callable[[Function], Function]:
        """Return the decorator of a command; `ended` says what is to be done where it was ended early.

        Where that is to start over, and preparations of scans could have been taken, these are named too.
        """
        register = super().command(name, cls=_Command, **settings)

        def decorate(function: Function) -> Function:
            hints = function.__annotations__ = get_type_hints(function, include_extras=True)
            for hint in hints.values():
                for option in getattr(hint, "__metadata__", ()):
                    if isinstance(option, OptionInfo) and option.metavar is None:
                        option.metavar = _word(hint)

            @wraps(function)
            def work(*arguments: Any, **options: Any) -> Any:
                unprepared = "prepared" in options and not (options["prepared"] or options.get("mask"))
                note_remedy(PREPARE_FIRST if unprepared and ended == START_OVER else ended)
                return function(*arguments, **options)

            register(work)
            return function

        return decorate


def _word(hint: object) -> str | None:
    """Return the word for what an option of a type takes; None where it is a choice."""
    parts = get_args(hint)
    return next(filter(None, map(_word, parts)), None) if parts else _WORDS.get(hint)  # type: ignore[call-overload]


app = Commands(
    name="mrharmony",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "token_normalize_func": lambda token: token.replace("_", "-"),
    },
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


def one_of(names: Sequence[str]) -> Callable[[str], str]:
    """Return the parser of an option that takes a method's name: one of these, or an old name of one."""

    def parse(value: str) -> str:
        current = OLD_NAMES.get(value, value)
        if current not in names:
            raise typer.BadParameter(f"{value!r} is not one of {', '.join(names)}.")
        return current

    return parse


@app.callback(invoke_without_command=True)
def common(
    version: Annotated[bool, typer.Option("--version", metavar="", help="Print the version.")] = False,
    verbose: Annotated[
        bool,
        typer.Option(
            "-v", "--verbose", metavar="", help="Show a traceback when something unexpected happens."
        ),
    ] = False,
) -> None:
    """Take the options that belong to every command."""
    del verbose  # read by `main` from the arguments, so that it also covers what happens before this
    if version:
        typer.echo(f"mrharmony {__version__}")
        raise typer.Exit(OK)


def echo_json(record: object) -> None:
    """Print a record on standard output as JSON."""
    typer.echo(json.dumps(record, indent=2))


def leave(refused: object) -> NoReturn:
    """End a command with the status that says whether anything was refused."""
    raise typer.Exit(REFUSED if refused else OK)


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


def _spread_labels(arguments: Sequence[str]) -> list[str]:
    """Let an option of labels take several: `--participant-label 01 02` as BIDS-Apps have it.

    The labels end where another option, a level of `bids` or an existing path begins; `sub-01` is a label all
    the same, since a BIDS folder that one is in has a folder of that name.
    """
    spread: list[str] = []
    option, first = None, False
    for argument in arguments:
        if argument.replace("_", "-") in LABEL_OPTIONS:
            option, first = argument, True
        elif option and not first and not _is_label(argument):
            option = None
        elif option:
            spread += [] if first else [option]
            first = False
        spread.append(argument)
    return spread


def _is_label(argument: str) -> bool:
    looks = re.fullmatch(r"(sub-|ses-)?[A-Za-z0-9]+", argument)
    if not looks or argument in ("participant", "group"):
        return False
    return bool(looks[1]) or not Path(argument).exists()


def _with_home(argument: str) -> str:
    """Return `--option=~/path` with the home folder in it, which some shells leave to the program."""
    option, _, value = argument.partition("=")
    at_home = option.startswith("--") and (value == "~" or value.startswith("~/"))
    return f"{option}={Path.home()}{value[1:]}" if at_home else argument


def _print_whatever_the_encoding() -> None:
    """Escape what the terminal's encoding lacks, such as names that are not UTF-8; it ends no work."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _end_with(error: MrharmonyError) -> NoReturn:
    print(f"mrharmony: {in_options(str(error))}", file=sys.stderr)
    sys.exit(USAGE)


def _end_without_output(failure: OSError) -> NoReturn:
    """End where standard output cannot be written; files that cannot have a sentence of their own."""
    sys.stdout = io.StringIO()  # what is left in the old one would fail once more
    print(
        f"mrharmony: standard output cannot be written ({failure.strerror}). Check free space there. "
        f"{remedy()}",
        file=sys.stderr,
    )
    sys.exit(USAGE)


def _require_a_folder_to_be_in() -> None:
    """Raise `MrharmonyError` where the working folder is gone: libraries do not load then."""
    try:
        Path.cwd()
    except OSError as failure:
        raise MrharmonyError("the working folder is gone. Go to another, and call again.") from failure


def _require_values(arguments: Sequence[str]) -> None:
    """Raise `MrharmonyError` where an argument is empty: a path would stand for the working folder."""
    for before, argument in pairwise(["mrharmony", *arguments]):
        attached = re.fullmatch(r"(--[\w-]+)=", argument)
        named = attached[1] if attached else before
        if (attached or not argument) and named.replace("_", "-") != _MAY_BE_EMPTY:
            raise MrharmonyError(
                f"the argument after {named} is empty. Give one; a variable of your script may not be set."
            )


def main() -> None:
    """Run the command line: every failure ends in one sentence and a status that says what kind it was."""
    _print_whatever_the_encoding()
    verbose = bool({"-v", "--verbose"} & set(sys.argv[1:]))
    arguments = [argument for argument in sys.argv[1:] if argument not in ("-v", "--verbose")]
    if not verbose:
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
    try:
        _require_a_folder_to_be_in()
        _require_values(arguments)
        app(_spread_labels([_with_home(argument) for argument in arguments]))
    except MrharmonyError as error:
        _end_with(error)
    except SystemExit as end:
        if end.code == INTERRUPTED:  # where signals cannot be blocked
            print(f"mrharmony: interrupted. {remedy()}", file=sys.stderr)
        if end.code == UNEXPECTED:  # who read what is printed, such as `head`, has seen enough
            sys.exit(NO_READER)
        raise
    except Exception as error:
        if verbose:
            raise
        if isinstance(error, OSError) and error.errno in _FULL and error.filename is None:
            _end_without_output(error)
        if isinstance(error, OSError) and error.filename is not None:
            _end_with(of_the_system(error))
        print(f"mrharmony: unexpected {type(error).__name__}: {error}. Use -v for details.", file=sys.stderr)
        sys.exit(UNEXPECTED)
