"""The JSON Schema of topology files, generated from the models and the settings.

``python -m rainband.definition.schema`` prints it; ``topology.schema.json`` in the package is its output, and a test
holds it current. A ``${…}`` may stand in place of any number, bool or word, which the models never see, so it is
added here.
"""

from __future__ import annotations

import json
from typing import Any, Final

from rainband.config import COMPONENT_KEYS, TOPOLOGY_KEYS, Config
from rainband.definition.model import TopologyFile

_VARIABLE: Final = {"type": "string", "pattern": r"\$\{.*\}"}
_ID: Final = "https://json-schema.org/draft/2020-12/schema"


def generate() -> str:
    """The schema as JSON text, ending with a newline."""
    schema = TopologyFile.model_json_schema(by_alias=True)
    config = Config.model_json_schema()
    for keys, owner in (((*TOPOLOGY_KEYS, *COMPONENT_KEYS), schema), (COMPONENT_KEYS, None)):
        properties = {key: _setting(config["properties"][key]) for key in keys}
        settings = {"type": "object", "additionalProperties": False, "properties": properties}
        owners = [owner] if owner else [schema["$defs"][name] for name in ("SpoutEntry", "BoltEntry")]
        for each in owners:
            each["properties"]["config"] |= settings
    schema["$defs"].pop("_Component", None)
    return (
        json.dumps(
            {"$schema": _ID, "title": "rainband topology"} | _with_variables(schema), indent=2, ensure_ascii=False
        )
        + "\n"
    )


def _setting(schema: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key not in ("scope", "title", "format")}


def _with_variables(schema: Any) -> Any:
    """The schema in which a variable may stand wherever it restricts a scalar."""
    if isinstance(schema, list):
        return [_with_variables(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    # The default None means "left out", which nothing in a file can say.
    schema = {key: value for key, value in schema.items() if not (key == "default" and value is None)}
    kind = schema.get("type")
    restricts = kind in ("integer", "number", "boolean") or (
        kind == "string" and ("pattern" in schema or "enum" in schema)
    )
    if restricts:
        about = {key: value for key, value in schema.items() if key in ("description", "default")}
        rest = {key: value for key, value in schema.items() if key not in about and key != "title"}
        return about | {"anyOf": [rest, _VARIABLE]}
    return {
        key: value if key == "propertyNames" else _with_variables(value)
        for key, value in schema.items()
        if key != "title" or not isinstance(value, str)
    }


if __name__ == "__main__":
    print(generate(), end="")
