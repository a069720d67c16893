"""Expressions of PostgreSQL's SQL that MariaDB writes in another way."""

import re
from collections.abc import Callable, Container
from typing import Any

from sqlglot import exp

from shared.mysql.wholes import whole
from shared.mysql.words import raw, sql

_DType = exp.DataType.Type
#: A UUID as text, from how it is stored.
_DASHED = "INSERT(INSERT(INSERT(INSERT({}, 9, 0, '-'), 14, 0, '-'), 19, 0, '-'), 24, 0, '-')"
_UNITS = ("year", "month", "week", "day", "hour", "minute", "second")
_EVER = re.compile(r"NULLS\s+(FIRST|LAST)", re.IGNORECASE)


def rewritten(tree: exp.Expr, source: str = "", identifiers: Container[str] = ()) -> Any:
    """The statement with every expression as MariaDB has it; its kind of statement is kept.

    Args:
        tree: What sqlglot read in PostgreSQL's dialect; it may be changed.
        source: The words it was read from.
        identifiers: Names of columns that hold UUIDs.
    """
    keeps_nulls_apart = _EVER.search(source) is not None

    def rewrite(node: exp.Expr) -> Any:
        if isinstance(node, exp.Ordered) and not keeps_nulls_apart:
            # Where NULL comes in the order is told only where it was asked for: the words for it
            # keep an index from being read in its order.
            node.set("nulls_first", not node.args.get("desc"))
            return node
        if isinstance(node, exp.Cast) and _is_text_of(node, identifiers):
            return raw(_DASHED.format(sql(node.this)))
        rule = _RULES.get(type(node))
        return node if rule is None else rule(node)

    # From the leaves up: what a rule looks at is written anew already, but for the first, which
    # are read together with what is in them.
    tree = tree.transform(lambda node: whole(node, _written))
    for node in reversed(list(tree.walk())):
        new = rewrite(node)
        if new is not node:
            if node is tree:
                tree = new
            else:
                node.replace(new)
    return tree


def _written(node: exp.Expr) -> str:
    return sql(rewritten(node.copy()))


def _is_text_of(node: exp.Cast, identifiers: Container[str]) -> bool:
    return (
        node.to.this is _DType.TEXT
        and isinstance(node.this, exp.Column)
        and node.this.name in identifiers
    )


_NAMES = {
    _DType.TEXT: "CHAR",
    _DType.DOUBLE: "DOUBLE",
    _DType.TIMESTAMPTZ: "DATETIME(6)",
    _DType.DATE: "DATE",
    **dict.fromkeys((_DType.INT, _DType.SMALLINT, _DType.BIGINT), "SIGNED"),
}
#: Stored as what they are cast from.
_SAME = {_DType.UUID, _DType.JSONB, _DType.JSON, _DType.VARBINARY, _DType.BOOLEAN}


def _cast(node: exp.Cast) -> Any:
    kind, inner = node.to.this, node.this
    if kind in _NAMES:
        return raw(f"CAST({sql(inner)} AS {_NAMES[kind]})")
    if kind is _DType.UUID and isinstance(inner, exp.Placeholder):
        return raw(f"REPLACE({sql(inner)}, '-', '')")
    if kind is _DType.ARRAY and not isinstance(inner, exp.Placeholder):
        return raw(f"REPLACE(REPLACE({sql(inner)}, '{{', '['), '}}', ']')")
    return inner if kind in _SAME or kind is _DType.ARRAY else node


def _interval(node: exp.MakeInterval) -> Any:
    # Named, only that one is there; by position, the seconds are the last.
    unit = next(name for name in reversed(_UNITS) if node.args.get(name) is not None)
    value = node.args[unit]
    value = value.expression if isinstance(value, exp.Kwarg) else value
    return raw(f"INTERVAL ({sql(value)}) {unit.upper()}")


def _now(_: exp.Expr) -> Any:
    return raw("NOW(6)")


def _filtered(node: exp.Filter) -> Any:
    function, condition = node.this.copy(), node.expression.this
    argument = function.this
    if isinstance(argument, exp.Distinct):
        (inner,) = argument.expressions
        case = exp.Case(ifs=[exp.If(this=condition.copy(), true=inner.copy())])
        argument.set("expressions", [case])
        return function
    if isinstance(argument, exp.Star):
        argument = exp.Literal.number(1)
    chosen = exp.Case(ifs=[exp.If(this=condition.copy(), true=argument.copy())])
    function.set("this", chosen)
    return function


_FUNCTIONS: dict[str, Callable[[list[str]], str]] = {
    "now": lambda _: "NOW(6)",
    "statement_timestamp": lambda _: "NOW(6)",
    "transaction_timestamp": lambda _: "NOW(6)",
    "clock_timestamp": lambda _: "SYSDATE(6)",
    "make_interval": lambda given: f"INTERVAL ({given[-1]}) SECOND",
    "gen_random_uuid": lambda _: "REPLACE(UUID(), '-', '')",
    "timezone": lambda given: given[1],
    "jsonb_build_array": lambda given: f"JSON_ARRAY({', '.join(given)})",
    "jsonb_typeof": lambda given: f"LOWER(JSON_TYPE({given[0]}))",
    "jsonb_array_length": lambda given: f"JSON_LENGTH({given[0]})",
}


def _anonymous(node: exp.Anonymous) -> Any:
    write = _FUNCTIONS.get(str(node.this).lower())
    return node if write is None else raw(write([sql(one) for one in node.expressions]))


def _extracted(node: exp.JSONExtract | exp.JSONExtractScalar) -> Any:
    return raw(f"JSON_EXTRACT({sql(node.this)}, {sql(node.expression)})")


def _unquoted(node: exp.JSONExtractScalar) -> Any:
    return raw(f"JSON_UNQUOTE({sql(_extracted(node))})")


def _coalesced(node: exp.Coalesce) -> Any:
    if "JSON_ARRAYAGG" in sql(node.this):
        node.set("expressions", [exp.Literal.string("[]")])
    return node


def _truncated(node: exp.Expr) -> Any:
    if node.args["unit"].name.lower() != "day":
        raise NotImplementedError(f"date_trunc to {node.args['unit']}")
    return raw(f"TIMESTAMP(DATE({sql(node.this)}))")


def _extreme(node: exp.Greatest | exp.Least) -> Any:
    # Of NULL and a value PostgreSQL takes the value.
    given = [sql(one) for one in (node.this, *node.expressions)]
    turns = [given[place:] + given[:place] for place in range(len(given))]
    values = ", ".join(f"COALESCE({', '.join(turn)})" for turn in turns)
    return raw(f"{node.sql_name()}({values})")


def _chosen(node: exp.Select) -> Any:
    if not node.expressions:
        node.set("expressions", [exp.Literal.number(1)])
    return node


def _lock(node: exp.Lock) -> Any:
    # MariaDB has two strengths of a lock on a row, and locks the rows of all tables that are read.
    words = "FOR UPDATE" if node.args.get("update") else "LOCK IN SHARE MODE"
    wait = node.args.get("wait")
    if wait is False:
        words += " SKIP LOCKED"
    elif wait is True:
        words += " NOWAIT"
    return raw(words)


def _difference(node: exp.Sub) -> Any:
    if isinstance(node.this, exp.CurrentDate) and not isinstance(node.expression, exp.Interval):
        return raw(f"(CURRENT_DATE - INTERVAL ({sql(node.expression)}) DAY)")
    return node


def _common_table(node: exp.CTE) -> Any:
    node.set("materialized", None)
    return node


def _function(name: str) -> Callable[[Any], exp.Expr]:
    def written(node: exp.Expr) -> Any:
        arguments = [node.this, node.expression] if node.args.get("expression") else [node.this]
        return raw(f"{name}({', '.join(sql(one) for one in arguments)})")

    return written


_RULES: dict[type[exp.Expr], Callable[[Any], exp.Expr]] = {
    exp.Cast: _cast,
    exp.MakeInterval: _interval,
    exp.CurrentTimestamp: _now,
    exp.Filter: _filtered,
    exp.Anonymous: _anonymous,
    exp.Lock: _lock,
    exp.Sub: _difference,
    exp.CTE: _common_table,
    exp.Uuid: lambda _: raw("REPLACE(UUID(), '-', '')"),
    exp.Rand: lambda _: raw("RAND()"),
    exp.ArrayOverlaps: _function("JSON_OVERLAPS"),
    exp.ArrayContainsAll: _function("JSON_CONTAINS"),
    exp.Select: _chosen,
    exp.Greatest: _extreme,
    exp.Least: _extreme,
    exp.AtTimeZone: lambda node: node.this,
    exp.TimestampTrunc: _truncated,
    exp.JSONExtract: _extracted,
    exp.JSONExtractScalar: _unquoted,
    exp.Coalesce: _coalesced,
    exp.StartsWith: lambda node: raw(f"(LOCATE({sql(node.expression)}, {sql(node.this)}) = 1)"),
    exp.JSONObjectAgg: lambda node: raw(
        f"JSON_OBJECTAGG({', '.join(sql(one) for one in node.expressions)})"
    ),
    exp.ArrayAgg: lambda node: raw(f"JSON_ARRAYAGG({sql(node.this)})"),
}
