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
    parts = [f"## `{context.command_path}`", (command.help or "").strip(), f"```text\n{usage}\n```"]
    for kind in ("argument", "option"):
        records = [p.get_help_record(context) for p in command.params if p.param_type_name == kind]
        rows = [f"| `{_cell(names)}` | {_cell(text)} |" for names, text in filter(None, records)]
        parts += ["\n".join([f"| {kind} | what it is |", "|---|---|", *rows])] if rows else []
    return "\n\n".join(parts)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("command-line", CommandLine)
    return {"parallel_read_safe": True}
