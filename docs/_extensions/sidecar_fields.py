"""The directive `sidecar-fields`: the keys of a JSON sidecar, from the model that reads and writes it."""

from __future__ import annotations

import re
import textwrap
from typing import Any

from docutils import nodes
from pydantic import BaseModel
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from mrharmony.evidence.drift import Evidence
from mrharmony.scans.sidecar import HarmonizedSidecar, Provenance, Software, UncertaintySidecar

_MODELS = {
    model.__name__: model for model in (HarmonizedSidecar, UncertaintySidecar, Software, Provenance, Evidence)
}
_REFERENCE = re.compile(r"As in `(\w+)`\.")


class SidecarFields(SphinxDirective):
    """Render the fields of a model as a table: key, JSON type, what it says."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        model = _MODELS[self.arguments[0]]
        described = descriptions(model)
        rows = ["| key | type | what it says |", "|---|---|---|"]
        schema = model.model_json_schema()["properties"]
        for name, field in model.model_fields.items():
            key = field.alias or name
            rows.append(f"| `{key}` | {_json_type(schema[key])} | {described.get(name, '')} |")
        return self.parse_text_to_nodes("\n".join(rows))


def _json_type(schema: dict[str, Any]) -> str:
    """Return what JSON calls a value: `number or null`."""
    if "$ref" in schema:
        return "object"
    choices = schema.get("anyOf")
    return " or ".join(map(_json_type, choices)) if choices else str(schema["type"])


def descriptions(model: type[BaseModel]) -> dict[str, str]:
    """Return what a model's docstring says of each field, in the section `Parameters`."""
    text = textwrap.dedent("    " + (model.__doc__ or "")).partition("Parameters\n----------\n")[2]
    found: dict[str, str] = {}
    for block in re.split(r"\n(?=\S)", text):
        names, _, rest = block.partition("\n")
        said = " ".join(rest.split())
        if reference := _REFERENCE.fullmatch(said):
            elsewhere = descriptions(_MODELS[reference[1]])
            found |= {name: elsewhere.get(name, "") for name in names.split(", ")}
        else:
            found |= dict.fromkeys(names.split(", "), said)
    return found


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("sidecar-fields", SidecarFields)
    return {"parallel_read_safe": True}
