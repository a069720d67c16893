"""Arrays, sets of rows and spans of time: what is read as a whole, from the outside."""

from collections.abc import Callable
from typing import Any

from sqlglot import exp

from shared.mysql.words import IDENTIFIERS, LISTED, ZIPPED, raw, sql

_DType = exp.DataType.Type
#: How the elements of an array of PostgreSQL's are read out of JSON.
_JSON_COLUMNS = {
    _DType.UUID: "CHAR(36)",
    _DType.JSONB: "JSON",
    _DType.INT: "BIGINT",
    _DType.SMALLINT: "BIGINT",
    _DType.BIGINT: "BIGINT",
    _DType.DOUBLE: "DOUBLE",
    _DType.BOOLEAN: "TINYINT",
    _DType.TIMESTAMPTZ: "DATETIME(6)",
}
_BYTES = {_DType.VARBINARY, _DType.BLOB}

#: Writes an expression that is not written anew yet.
Write = Callable[[exp.Expr], str]


def whole(node: exp.Expr, write: Write) -> exp.Expr:
    """The expression as MariaDB has it, if it is one of those; itself otherwise.

    Raises:
        NotImplementedError: a membership in something else than a list, a column or a query.
    """
    written: exp.Expr | None = None
    if isinstance(node, exp.Unnest):
        written = _unnested(node)
    elif isinstance(node, exp.Table) and _is_named(node.this, "jsonb_to_recordset"):
        written = _records(node)
    elif isinstance(node, exp.Table) and isinstance(node.this, exp.ExplodingGenerateSeries):
        written = _series(node, write)
    elif isinstance(node, (exp.EQ, exp.NEQ)):
        written = _membership(node, write)
    elif isinstance(node, exp.In) and node.args.get("query") is not None:
        written = _one_of_elements(node, write)
    elif isinstance(node, exp.Extract) and node.name.lower() == "epoch":
        written = _seconds(node, write)
    return node if written is None else written


def _is_named(node: Any, name: str) -> bool:
    return isinstance(node, exp.Anonymous) and str(node.this).lower() == name


def _bare(node: exp.Expr) -> exp.Expr:
    while isinstance(node, (exp.Paren, exp.Cast)) or (
        isinstance(node, exp.Subquery) and not node.alias
    ):
        node = node.this
    return node


def _membership(node: exp.EQ | exp.NEQ, write: Write) -> exp.Expr | None:
    value, group = node.this, node.expression
    if isinstance(value, (exp.Any, exp.All)):
        value, group = group, value
    if isinstance(group, (exp.Any, exp.All)):
        given = group.this
    elif _is_named(group, "all") or _is_named(group, "any"):
        given = group.expressions[0]
    else:
        return None
    inner = _bare(given)
    if isinstance(inner, exp.Placeholder):
        kind = IDENTIFIERS if _element(given) is _DType.UUID else LISTED
        found: exp.Expr = raw(f"{write(value)} IN :{kind}{inner.name}")
    elif isinstance(inner, exp.Column):
        found = raw(f"JSON_CONTAINS({write(inner)}, JSON_QUOTE({write(value)}))")
    elif _is_named(inner, "array") or isinstance(inner, exp.Array):
        found = exp.In(this=value, query=exp.Subquery(this=_bare(inner.expressions[0])))
    else:
        raise NotImplementedError(f"membership in {inner.sql('postgres')}")
    return exp.Not(this=exp.Paren(this=found)) if isinstance(node, exp.NEQ) else found


def _one_of_elements(node: exp.In, write: Write) -> exp.Expr | None:
    """``x IN (SELECT value FROM jsonb_array_elements(y) AS value)``, compared as JSON."""
    elements = next(
        (one for one in node.find_all(exp.Anonymous) if _is_named(one, "jsonb_array_elements")),
        None,
    )
    if elements is None:
        return None
    return raw(f"JSON_CONTAINS({write(elements.expressions[0])}, {write(node.this)})")


def _element(given: exp.Expr) -> Any:
    """What an array is cast to be an array of."""
    while isinstance(given, exp.Paren):
        given = given.this
    if isinstance(given, exp.Cast) and given.to.this is _DType.ARRAY:
        return given.to.expressions[0].this
    return None


def _unnested(node: exp.Unnest) -> exp.Expr:
    alias = node.args["alias"]
    names = [one.name for one in alias.columns] or [alias.name]
    parameters = [_bare(one).name for one in node.expressions]
    kinds = [one.to.expressions[0].this for one in node.expressions]
    columns, read = [], []
    for number, (name, kind) in enumerate(zip(names, kinds, strict=True)):
        columns.append(f"c{number} {_JSON_COLUMNS.get(kind, 'LONGTEXT')} PATH '$[{number}]'")
        read.append(f"{_value(number, kind)} AS `{name}`")
    return _json_rows(f":{ZIPPED}{'__'.join(parameters)}", columns, read, alias.name)


def _records(node: exp.Table) -> exp.Expr:
    """``jsonb_to_recordset(CAST(:name AS jsonb)) AS name(column type, ...)``."""
    alias = node.args["alias"]
    columns, read = [], []
    for number, column in enumerate(alias.columns):
        kind = column.args["kind"].this
        form = _JSON_COLUMNS.get(kind, "LONGTEXT")
        columns.append(f"c{number} {form} PATH '$.{column.name}'")
        read.append(f"{_value(number, kind)} AS `{column.name}`")
    return _json_rows(sql(_bare(node.this.expressions[0])), columns, read, alias.name)


def _value(number: int, kind: Any) -> str:
    if kind is _DType.UUID:
        # In a type that says what it is, also where a table is made of it.
        return f"CAST(REPLACE(c{number}, '-', '') AS CHAR(32))"
    return f"UNHEX(c{number})" if kind in _BYTES else f"c{number}"


def _json_rows(rows: str, columns: list[str], read: list[str], name: str) -> exp.Expr:
    table = f"JSON_TABLE({rows}, '$[*]' COLUMNS ({', '.join(columns)})) AS json_rows"
    return raw(f"(SELECT {', '.join(read)} FROM {table}) AS `{name}`")  # noqa: S608 - no input


def _series(node: exp.Table, write: Write) -> exp.Expr:
    name = node.alias or "generate_series"
    first, last = write(node.this.args["start"]), write(node.this.args["end"])
    return raw(
        f"(WITH RECURSIVE series AS (SELECT {first} AS `{name}` UNION ALL "  # noqa: S608 - no input
        f"SELECT `{name}` + 1 FROM series WHERE `{name}` < {last}) "
        f"SELECT `{name}` FROM series) AS `{name}`"
    )


def _seconds(node: exp.Extract, write: Write) -> exp.Expr:
    what = node.expression
    if isinstance(what, exp.Subquery):
        (of,) = what.this.expressions
        if isinstance(of, exp.Sub):
            of.replace(_seconds(exp.Extract(this=node.this, expression=of.copy()), write))
            return what
    what = _bare(what)
    if isinstance(what, exp.Sub):
        earlier, later = write(what.expression), write(what.this)
        return raw(f"(TIMESTAMPDIFF(MICROSECOND, {earlier}, {later}) / 1e6)")
    return raw(f"(UNIX_TIMESTAMP({write(what)}) + 0e0)")
