"""The directive `command-line`: the help of every command, as the program itself says it."""

from __future__ import annotations

from typing import Any

import typer
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from mrharmony.cli import app


class CommandLine(SphinxDirective):
    """Render all commands as sections: what the command does, its usage, its arguments and its options."""

    def run(self) -> list[nodes.Node]:
        """Return the sections."""
        context = typer.Context(typer.main.get_command(app), info_name="mrharmony")
        text = "\n\n".join(_section(child) for child in _commands(context))
        return self.parse_text_to_nodes(text, allow_section_headings=True)


def _commands(context: typer.Context) -> list[typer.Context]:
    """Return the commands below one, groups before their members, in the order of `--help`."""
    found = []
    for name, command in getattr(context.command, "commands", {}).items():
        child = typer.Context(command, info_name=name, parent=context)
        found += [child, *_commands(child)]
    return found


def _section(context: typer.Context) -> str:
    """Return the section of a command as Markdown."""
    command = context.command
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    parts = [f"## `{context.command_path}`", _plain(command.help), f"```text\n{usage}\n```"]
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and not p.hidden]
    parts += [_table("argument", [(p.human_readable_name, _help(p)) for p in arguments])] if arguments else []
    parts += [_table("option", [(_names(p), _help(p)) for p in options])] if options else []
    return "\n\n".join(parts)


def _plain(text: str | None) -> str:
    return (text or "").replace("\f", "").strip()


def _names(option: Any) -> str:
    """Return the names of an option with what it takes: `--seed INTEGER`."""
    names = [", ".join(option.opts), *option.secondary_opts]
    value = "" if option.is_flag else f" {option.metavar or option.type.name.upper()}"
    choices = getattr(option.type, "choices", ())
    return "/".join(names) + (f" {'|'.join(choices)}" if choices else value)


def _help(parameter: Any) -> str:
    """Return the help of a parameter with its default, where it has one."""
    default = parameter.default
    text = _plain(parameter.help)
    text += " **Required.**" if parameter.required else ""
    return text + ("" if default in (None, False, [], ()) or callable(default) else f" Default: `{default}`.")


def _table(kind: str, rows: list[tuple[str, str]]) -> str:
    """Return a table of two columns."""
    cells = [(f"`{name}`".replace("|", "\\|"), text.replace("|", "\\|")) for name, text in rows]
    return "\n".join([f"| {kind} | |", "|---|---|", *(f"| {name} | {text} |" for name, text in cells)])


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("command-line", CommandLine)
    return {"parallel_read_safe": True}
