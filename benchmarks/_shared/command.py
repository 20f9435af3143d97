"""The command line of a script: the same for all of them."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mrharmony.core.worker_process import limit_threads

ROOT = Path("benchmarks")


def start(doc: str | None, *inputs: str, **options: object) -> argparse.Namespace:
    """Return what the command line of the running script gives.

    Parameters
    ----------
    doc
        The script's docstring, which `--help` prints.
    inputs
        Names of the paths that come first; the last one takes several where it ends in `...`.
    options
        Defaults by name. A type: the option is required; a tuple: the values to choose from, the first is
        the default; a list: it can be given several times, and must be where the list holds a type; False: a
        switch.

    Returns
    -------
    The values by name; `command` to repeat the run; `work`, a folder of this script for what is unfinished;
    `brains`, a folder of prepared brains that all scripts share; `output`, where the tables go; `stem`, the
    path of the script's tables without their suffix.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawTextHelpFormatter)
    for name in inputs:
        plain = name.removesuffix("...")
        parser.add_argument(plain, type=Path, nargs="+" if plain != name else None)
    for name, default in options.items():
        parser.add_argument(f"--{name.replace('_', '-')}", **_option(default))
    _, *folder, script = _module().split(".")
    parser.add_argument("--work", type=Path, default=ROOT / "work", help="unfinished work, %(default)s")
    parser.add_argument("--output", type=Path, default=ROOT.joinpath("results", *folder), help="%(default)s")
    asked = parser.parse_args()
    asked.command = " ".join([f"python -m {_module()}", *_words(asked, inputs, options)])
    asked.brains, asked.work, asked.stem = asked.work / "brains", asked.work / script, asked.output / script
    return asked


def on_one_thread(doc: str | None, *inputs: str, **options: object) -> argparse.Namespace:
    """Return `start`'s values and compute on one thread, so that figures do not depend on the machine."""
    limit_threads()
    return start(doc, *inputs, **options)


def _module() -> str:
    return str(sys.modules["__main__"].__spec__.name)  # type: ignore[union-attr]


def _option(default: object) -> dict[str, Any]:
    if isinstance(default, bool):
        return {"action": "store_true"}
    if isinstance(default, type):
        return {"type": default, "required": True}
    if isinstance(default, list):
        return {"action": "append", "default": [], "required": bool(default)}
    if isinstance(default, tuple):
        return {"choices": default, "default": default[0]}
    return {"type": str if default is None else type(default), "default": default, "help": "%(default)s"}


def _words(asked: argparse.Namespace, inputs: tuple[str, ...], options: dict[str, object]) -> Iterator[str]:
    """Yield the words of the command: paths as placeholders, and the options that are not the default."""
    yield from (name.upper() for name in inputs)
    for name, default in options.items():
        value, flag = getattr(asked, name), f"--{name.replace('_', '-')}"
        usual = default[0] if isinstance(default, tuple) else default
        if value is True:
            yield flag
        elif value != usual:
            each = value if isinstance(value, list) else [value]
            yield from (f"{flag} {name.upper() if isinstance(one, Path) else one}" for one in each)
