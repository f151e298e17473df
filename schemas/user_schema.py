"""JSON Schemas that people write into specs (Agent.inputSchema, outputSchema): which are accepted, and what a value
that does not meet one is told. References stay inside the document, so checking a value never reaches the network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jsonschema import SchemaError, ValidationError

_MESSAGE_LENGTH = 200
_FIRST = 5


def require_json_schema(schema: dict[str, Any]) -> None:
    """Raise ValueError unless ``schema`` is a JSON Schema (2020-12, or the draft its ``$schema`` names) whose
    references all begin with ``#``."""
    # Imported here: it costs 0.2 s, and most commands never meet a schema.
    import jsonschema
    from jsonschema.validators import validator_for

    _require_local_references(schema)
    try:
        validator_for(schema, default=jsonschema.Draft202012Validator).check_schema(schema)
    except jsonschema.SchemaError as error:
        raise ValueError(f"not a JSON Schema: {_line(error)}") from None


def violations(schema: dict[str, Any], value: Any) -> list[str]:
    """What of ``value`` does not meet ``schema``: at most five lines ``field: message``, sorted; empty when it fits.

    ``schema`` has passed require_json_schema. A reference that leads nowhere is one of the lines, not an exception.
    """
    # Imported here for the same reason as above.
    import jsonschema
    import referencing
    import referencing.exceptions
    from jsonschema.validators import validator_for

    validator = validator_for(schema, default=jsonschema.Draft202012Validator)(schema, registry=referencing.Registry())
    found: list[str] = []
    try:
        for error in validator.iter_errors(value):
            found.append(_line(error))
    except (referencing.exceptions.Unresolvable, jsonschema.exceptions.UnknownType) as error:
        found.append(f"the schema itself: {str(error)[:_MESSAGE_LENGTH]}")
    except RecursionError:
        found.append("the schema itself: it refers to itself without end")
    return sorted(found)[:_FIRST]


def _line(error: ValidationError | SchemaError) -> str:
    """``field: message`` of the most telling fault: "not valid under any of the given schemas" helps nobody."""
    from jsonschema.exceptions import best_match

    while error.context:
        error = best_match(error.context)
    where = ".".join(str(part) for part in error.absolute_path) or "the value"
    return f"{where[:80]}: {error.message[:_MESSAGE_LENGTH]}"


def _require_local_references(schema: dict[str, Any]) -> None:
    stack: list[Any] = [schema]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            for word in ("$ref", "$dynamicRef", "$recursiveRef"):
                target = item.get(word)
                if isinstance(target, str) and not target.startswith("#"):
                    raise ValueError(f"{word} {target[:80]!r} leaves the document: define it under $defs")
            stack.extend(item.values())
        elif isinstance(item, list | tuple):
            stack.extend(item)
