"""Settings of a command in a TOML file, and the settings of a run as one."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer

from mrharmony.core.findings import MrharmonyError

_NOT_KEPT = frozenset({"config", "json", "dry-run", "help"})  # of a run, not of what it does
_OR_A_FILE = frozenset({".json", ".yaml", ".yml"})  # of texts that may be names: protocols, presets


def _take(context: typer.Context, path: Path | None) -> Path | None:
    """Let a file give the options that are not on the command line."""
    if path is None:
        return None
    try:
        settings = tomllib.loads(path.read_text("utf-8-sig", "surrogateescape"))
    except (OSError, ValueError) as failure:
        raise MrharmonyError(
            f'{path}: cannot be used ({failure}). Write TOML such as `to = "NSK"`.'
        ) from failure
    options = {
        name.removeprefix("--"): option
        for option in _options(context)
        for name in option.opts
        if name.startswith("--") and name != "--config"
    }
    context.default_map = defaults = {}
    keys: dict[str, str] = {}  # of each option's name, the one in the file
    for key, value in settings.items():
        option = options.get(key.replace("_", "-"))
        if option is None:
            raise MrharmonyError(f"{path}: no option {key!r}. Choose from {', '.join(sorted(options))}.")
        if (first := keys.setdefault(option.name, key)) != key:
            raise MrharmonyError(f"{path}: {first} and {key} are the same option. Leave one out.")
        defaults[option.name] = _value(context, path, key, value, option)
    return path


def _value(context: typer.Context, path: Path, key: str, value: Any, option: Any) -> Any:
    """Return the value of a setting as its option takes it; raises `MrharmonyError` where it does not."""
    values = value if isinstance(value, list) and option.multiple else [value]
    if not all(isinstance(one, str | bool | int | float) for one in values):
        form = '["01", "02"]' if option.multiple else "a text or a number"
        raise MrharmonyError(f"{path}: {key} cannot be {value!r}. Write {form}.")
    taken = values if option.multiple else value
    try:
        option.process_value(context, taken)
    except typer.BadParameter as failure:
        raise MrharmonyError(
            f"{path}: {key} cannot be {value!r}: {failure.message.rstrip('.')}."
        ) from failure
    return taken


Config = Annotated[
    Path | None,
    typer.Option(
        help='TOML file with these options (`to = "NSK"`); the command line wins. Every run writes one.',
        callback=_take,
        is_eager=True,
    ),
]


def settings_of(context: typer.Context) -> dict[str, Any]:
    """Return the options of a command that are not at their defaults, as its file of settings has them.

    Names of files are absolute, since the settings may be taken again from another folder.
    """
    given = {}
    for option in _options(context):
        value, name = context.params.get(option.name or ""), _name(option)
        source = context.get_parameter_source(option.name or "")
        if name not in _NOT_KEPT and value is not None and source is not None and source.name != "DEFAULT":
            given[name] = _plain(value)
    return given


def typed_options(context: typer.Context) -> list[str]:
    """Return the names of the options on the command line itself, such as `--to`."""
    sources = {option: context.get_parameter_source(option.name or "") for option in _options(context)}
    return [
        f"--{_name(option)}" for option, source in sources.items() if source and source.name == "COMMANDLINE"
    ]


def _options(context: typer.Context) -> list[Any]:
    return [option for option in context.command.params if option.param_type_name == "option"]


def _name(option: Any) -> str:
    return str(max(option.opts, key=len).lstrip("-"))


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, Path):
        return str(value.absolute())
    if isinstance(value, str) and Path(value).suffix.lower() in _OR_A_FILE and Path(value).is_file():
        return str(Path(value).absolute())
    return value if isinstance(value, bool | int | float) else str(value)
