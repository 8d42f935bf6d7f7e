"""What the tree of a query may hold: one SELECT over tables that are named, of functions that only compute.

The tree is what ClickHouse's parseQueryToJSON gives: objects with a `type`, in fields that differ by type. The tables
here are allow-lists: a type or a field that they don't know is refused, since nobody knows what it would do.
"""

import re
from collections.abc import Collection, Iterator
from typing import Any, Final, NamedTuple

from ops.analytics.rawsql.functions import (
    CALLS_FIRST,
    NAMES_AGGREGATE,
    READS_TABLE,
    TABLE_FUNCTIONS,
    is_aggregate,
    is_pure,
)
from ops.errors import OpsError

Node = dict[str, Any]


class Refused(OpsError):
    """What a query may not do here, and what it may do instead."""


_FIELDS: Final = {
    "ArrayJoin": "kind expression_list",
    "Asterisk": "expression transformers",
    "ColumnsApplyTransformer": "func_name parameters lambda lambda_arg column_name_prefix",
    "ColumnsExceptTransformer": "is_strict pattern children",
    "ColumnsListMatcher": "expression column_list transformers",
    "ColumnsRegexpMatcher": "expression pattern transformers",
    "ColumnsReplaceTransformer": "is_strict children",
    "ColumnsReplaceTransformerReplacement": "name children",
    "ColumnsTransformerList": "children",
    "ExpressionList": "children",
    "Function": "name arguments parameters is_operator kind is_lambda_function nulls_action"
    " is_window_function window_name window_definition",
    "Identifier": "name name_parts",
    "InterpolateElement": "column expr",
    "Literal": "value",
    "OrderByElement": "direction nulls_direction nulls_direction_was_explicitly_specified with_fill expression"
    " collation fill_from fill_to fill_step fill_staleness",
    "QualifiedAsterisk": "qualifier transformers",
    "QualifiedColumnsListMatcher": "qualifier column_list transformers",
    "QualifiedColumnsRegexpMatcher": "qualifier pattern transformers",
    "SampleRatio": "numerator denominator",
    "SelectQuery": "recursive_with with select distinct tables cte_aliases prewhere where group_by group_by_all"
    " group_by_with_totals group_by_with_rollup group_by_with_cube group_by_with_grouping_sets having window qualify"
    " order_by order_by_all interpolate limit_by limit_by_offset limit_by_length limit_offset limit_length"
    " limit_with_ties",
    "SelectWithUnionQuery": "union_mode list_of_modes list_of_selects"
    " is_outfile_append is_outfile_truncate is_into_outfile_with_stdout",
    "Subquery": "cte_name children",
    "TableExpression": "final database_and_table_name table_function subquery sample_size sample_offset column_aliases",
    "TableIdentifier": "name name_parts",
    "TableJoin": "locality strictness kind is_natural using_expression_list on_expression",
    "TablesInSelectQuery": "children",
    "TablesInSelectQueryElement": "table_join table_expression array_join",
    "WindowDefinition": "parent_window_name partition_by order_by frame_is_default frame_type"
    " frame_begin_type frame_begin_offset frame_begin_preceding frame_end_type frame_end_offset frame_end_preceding",
    "WindowListElement": "name definition",
    "WithElement": "name subquery aliases",
}
_ALLOWED: Final = {kind: {"type", "alias", *fields.split()} for kind, fields in _FIELDS.items()}

_INSTEAD: Final = {
    "out_file": "INTO OUTFILE writes a file: leave it out",
    "format_ast": "FORMAT is chosen by the command: leave it out",
    "settings": "SETTINGS are fixed here: leave them out",
    "settings_ast": "SETTINGS are fixed here: leave them out",
    "QueryParameter": "a parameter in {} has no value here: write the value itself",
}


class _Place(NamedTuple):
    """A node, and the names that WITH gives to subqueries where it stands."""

    node: Node
    named: frozenset[str]


def check_tree(tree: Node, *, database: str, tables: Collection[str]) -> None:
    """`tables` are what may be read of `database`, which ClickHouse must take a name alone to be in. Raises Refused."""
    if tree.get("type") != "SelectWithUnionQuery":
        raise Refused(f"only a SELECT is run here, and this is another statement ({tree.get('type')})")
    walk = _Walk(database, tables)
    todo = [_Place(tree, frozenset())]
    while todo:
        todo.extend(walk.visit(todo.pop()))
    walk.check_aliases()


class _Walk:
    def __init__(self, database: str, tables: Collection[str]) -> None:
        self._database = database
        self._tables = tables
        self._relied_on: set[str] = set()
        """Names within expressions that were taken for those of a table or a function."""
        self._aliases: set[str] = set()
        """Names that are given to other names."""

    def check_aliases(self) -> None:
        """After `WITH system.users AS people`, `IN people` looks into system.users. Raises Refused."""
        if taken := self._relied_on & self._aliases:
            raise Refused(f"{taken.pop()!r} is the name of something else already: take another one after AS")

    def visit(self, place: _Place) -> Iterator[_Place]:
        """Checks the node and gives those below it. Raises Refused."""
        node, named = place
        _check_fields(node)
        match node["type"]:
            case "SelectWithUnionQuery":
                yield from _selects(node, named)
                return
            case "SelectQuery":
                yield from _ctes(node, named)
                named |= _named_by(node)
                node = {field: value for field, value in node.items() if field != "with"}
            case "TableExpression" if function := node.get("table_function"):
                _check_fields(function)
                _check_table_function(function)
                yield from _below(function, named)
                node = {field: value for field, value in node.items() if field != "table_function"}
            case "TableExpression" if table := node.get("database_and_table_name"):
                self._check_table(table, named)
            case "TableIdentifier":
                self._check_table(node, named)
            case "Identifier" if "alias" in node:
                self._aliases.add(node["alias"])
            case "Function":
                self._check_function(node, named)
            case "ColumnsApplyTransformer" if "func_name" in node:
                _check_callable(node["func_name"])
        yield from _below(node, named)

    def _check_function(self, node: Node, named: frozenset[str]) -> None:
        name, arguments = node["name"].lower(), _children(node["arguments"]) if "arguments" in node else []
        _check_callable(node["name"])
        if name in READS_TABLE and len(arguments) > 1 and arguments[1]["type"] == "Identifier":
            self._check_table(arguments[1], named)
            self._relied_on.add(arguments[1]["name"])
        if name in CALLS_FIRST and len(arguments) > 1 and arguments[0]["type"] == "Identifier":
            _check_callable(arguments[0]["name"])
            self._relied_on.add(arguments[0]["name"])
        if name in NAMES_AGGREGATE:
            _check_aggregate(node["name"], arguments)

    def _check_table(self, node: Node, named: frozenset[str]) -> None:
        match node.get("name_parts") or [node["name"]]:
            case [name] if name in named or name in self._tables:
                return
            case [database, name] if database == self._database and name in self._tables:
                return
        raise Refused(
            f"there is no table {node['name']!r} that may be read here; there are: {', '.join(sorted(self._tables))}"
        )


def _check_fields(node: Node) -> None:
    kind = node.get("type", "what has no type")
    if kind not in _ALLOWED:
        raise Refused(_INSTEAD.get(kind, f"this part of ClickHouse's SQL may not be used here: {kind}"))
    for field in node.keys() - _ALLOWED[kind]:
        raise Refused(_INSTEAD.get(field, f"this part of ClickHouse's SQL may not be used here: {field} of {kind}"))


def _check_callable(name: str) -> None:
    if not is_pure(name):
        raise Refused(
            f"the function {name!r} may not be called here: only ClickHouse's own may be that compute from what they "
            "are given, and read nothing else"
        )


def _check_table_function(node: Node) -> None:
    if node["name"].lower() not in TABLE_FUNCTIONS:
        raise Refused(
            f"the table function {node['name']!r} may not be used here: read a table, or use numbers or values"
        )


def _check_aggregate(function: str, arguments: list[Node]) -> None:
    """What is computed can't be looked at, so the name must be written out: 'sum', or 'quantile(0.9)'."""
    value = arguments[0].get("value", {}).get("value") if arguments else None
    if not isinstance(value, str) or not is_aggregate(re.sub(r"\(.*", "", value, flags=re.DOTALL).strip()):
        raise Refused(
            f"{function} needs the name of an aggregate function of ClickHouse's own, written out: 'sum', say"
        )


def _selects(node: Node, named: frozenset[str]) -> Iterator[_Place]:
    """What the first SELECT of a UNION names by WITH, the others know too."""
    first, *others = _children(node["list_of_selects"])
    yield _Place(first, named)
    yield from (_Place(other, named | _named_by(first)) for other in others)


def _ctes(node: Node, named: frozenset[str]) -> Iterator[_Place]:
    """Each knows those before it, and itself only if it is recursive: `WITH t AS (SELECT * FROM t)` reads a table."""
    for element in _children(node["with"]) if "with" in node else []:
        if element.get("type") == "WithElement":
            known = named | {element["name"]}
            yield _Place(element, known if node.get("recursive_with") else named)
            named = known
        else:
            yield _Place(element, named)


def _named_by(node: Node) -> frozenset[str]:
    """The names that WITH gives to subqueries. In brackets a WITH is for itself."""
    elements = _children(node["with"]) if node.get("type") == "SelectQuery" and "with" in node else []
    return frozenset(element["name"] for element in elements if element.get("type") == "WithElement")


def _children(node: Node) -> list[Node]:
    _check_fields(node)
    return list(node.get("children", []))


def _below(node: Node, named: frozenset[str]) -> Iterator[_Place]:
    values = [] if node["type"] == "Literal" else list(node.values())
    while values:
        value = values.pop()
        if isinstance(value, dict):
            yield _Place(value, named)
        elif isinstance(value, list):
            values.extend(value)
