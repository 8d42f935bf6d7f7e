"""Structs as JSON Schema, described by their own docstrings: what both descriptions of the protocol are made of."""

import ast
import inspect
import textwrap
from collections.abc import Iterable
from itertools import pairwise
from types import ModuleType
from typing import Any, Final

import msgspec

REFERENCE: Final = "#/components/schemas/{name}"


def schemas_of(shapes: Iterable[type[msgspec.Struct]], *modules: ModuleType) -> dict[str, Any]:
    """The schemas of these structs and of all that they hold, by the structs' names, which stand in these modules."""
    _, schemas = msgspec.json.schema_components(list(shapes), ref_template=REFERENCE)
    for name, schema in schemas.items():
        shape = next(vars(module)[name] for module in modules if name in vars(module))
        if "description" in schema:
            schema["description"] = inspect.cleandoc(schema["description"])
        for field, text in _field_docs(shape).items():
            schema["properties"][field]["description"] = text
    return schemas


def _field_docs(shape: type[msgspec.Struct]) -> dict[str, str]:
    """The docstrings under a struct's fields, by the fields' names on the wire."""
    texts: dict[str, str] = {}
    for base in reversed(shape.__mro__):
        if issubclass(base, msgspec.Struct) and base is not msgspec.Struct:
            texts.update(_docs_in_source(base))
    return {field.encode_name: texts[field.name] for field in msgspec.structs.fields(shape) if field.name in texts}


def _docs_in_source(shape: type[Any]) -> dict[str, str]:
    tree = ast.parse(textwrap.dedent(inspect.getsource(shape)))
    assert isinstance(tree.body[0], ast.ClassDef)
    lines = tree.body[0].body
    return {
        field.target.id: inspect.cleandoc(text.value.value)
        for field, text in pairwise(lines)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }
