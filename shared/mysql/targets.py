"""The table that a statement changes, and what stands beside it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlglot import exp

from shared.mysql.words import LISTED, raw


@dataclass(frozen=True)
class Table:
    """What must be known of a table: its primary key and all its columns, by name."""

    key: tuple[str, ...]
    columns: frozenset[str]


@dataclass(frozen=True)
class Tables:
    """The tables by name, and the names of columns that hold UUIDs."""

    by_name: Mapping[str, Table]
    identifiers: frozenset[str]


class Untranslated(NotImplementedError):
    """A statement that has no counterpart; it needs words of its own for MariaDB."""


class Target:
    """The table that a statement changes, and what stands beside it.

    Raises:
        Untranslated: nobody knows the table's key.
    """

    def __init__(self, tree: exp.Expr, tables: Tables) -> None:
        table = tree.this
        self.table = table.name
        self.name = table.alias or table.name
        known = tables.by_name.get(self.table)
        if known is None:
            raise Untranslated(f"{self.table} is no table of the models")
        self.key, self._columns = known.key, known.columns
        self._tree = tree

    def reference(self) -> exp.Table:
        """The table as it stands in FROM."""
        reference = exp.to_table(self.table)
        if self.name != self.table:
            reference.set("alias", exp.TableAlias(this=exp.to_identifier(self.name)))
        return reference

    def others(self) -> list[exp.Expr]:
        """What stands in FROM or USING."""
        origin = self._tree.args.get("from_")
        named = [origin.this] if origin is not None else list(self._tree.args.get("using") or ())
        found: list[exp.Expr] = []
        for other in [self._tree.this, *named]:
            found += [other, *(join.this for join in other.args.get("joins") or ())]
        apart = [one.copy() for one in found[1:]]
        for other in apart:
            other.set("joins", None)
        return apart

    def condition(self) -> exp.Expr | None:
        """What a row and what stands beside it must fulfil: WHERE, and ON of joins in FROM."""
        where = self._tree.args.get("where")
        origin: Any = self._tree.args.get("from_")
        joins = () if origin is None else origin.this.args.get("joins") or ()
        parts = [] if where is None else [where.this]
        parts += [join.args["on"] for join in joins if join.args.get("on")]
        return self.qualified(exp.and_(*parts)) if parts else None

    def qualified(self, node: exp.Expr) -> exp.Expr:
        """The expression with the target's own columns named as such, outside of subqueries."""
        if not self.others():
            return node.copy()
        copy = node.copy()
        for column in list(copy.find_all(exp.Column)):
            is_ours = not column.table and column.name in self._columns
            if is_ours and column.find_ancestor(exp.Select) is None:
                column.set("table", exp.to_identifier(self.name))
        return copy

    def is_one_of(self, name: str) -> exp.Expr:
        """The condition that a row's key is in the list of that name."""
        columns = ", ".join(f"{self.name}.{one}" for one in self.key)
        columns = f"({columns})" if len(self.key) > 1 else columns
        return raw(f"{columns} IN :{LISTED}{name}")

    def used(self, nodes: Sequence[exp.Expr]) -> list[exp.Expr]:
        """Of what stands beside, all when one of these expressions reads any; it locks nothing."""
        others = self.others()
        names = {one.alias_or_name for one in others}
        is_used = any(
            column.table in names for node in nodes for column in node.find_all(exp.Column)
        )
        return [inlined(one, commons(self._tree)) for one in others] if is_used else []

    def read(self, expressions: Sequence[exp.Expr], name: str) -> exp.Select:
        """The query for expressions of RETURNING, once the rows were changed."""
        wanted = [self.qualified(one) for one in expressions]
        query = exp.Select(expressions=wanted).from_(self.reference())
        condition: Any = self.is_one_of(name)
        used = self.used(wanted)
        if used:
            for other in used:
                query = query.join(other, join_type="CROSS")
            condition = exp.and_(condition, *self._lasting(used))
        return query.where(condition)

    def deletion(self, name: str) -> exp.Delete:
        """The statement that deletes the rows whose keys are in the list of that name."""
        return exp.Delete(
            this=self.reference(),
            tables=[exp.to_table(self.name)] if self.name != self.table else None,
            where=exp.Where(this=self.is_one_of(name)),
        )

    def _lasting(self, others: Sequence[exp.Expr]) -> Iterator[exp.Expr]:
        """Of the condition what ties the others to the row and holds after the change, too."""
        condition: Any = self.condition()
        names = {one.alias_or_name for one in others}
        changed = {one.this.name for one in self._tree.expressions}
        parts = condition.flatten() if isinstance(condition, exp.And) else [condition]
        for part in parts:
            columns = list(part.find_all(exp.Column))
            if not any(one.table in names for one in columns):
                continue
            if any(one.table == self.name and one.name in changed for one in columns):
                continue
            yield part


def in_order(assigned: Sequence[exp.EQ]) -> list[exp.EQ]:
    """Assignments so that each reads what was there before the statement.

    MySQL carries them out one after the other, where PostgreSQL knows no order.

    Raises:
        Untranslated: two read what the other assigns.
    """
    left, ordered = list(assigned), list[exp.EQ]()
    while left:
        following = next((one for one in left if not _is_read(one, left)), None)
        if following is None:
            names = ", ".join(one.this.name for one in left)
            raise Untranslated(f"assignments that read one another: {names}")
        left.remove(following)
        ordered.append(following)
    return ordered


def _is_read(assigned: exp.EQ, others: Sequence[exp.EQ]) -> bool:
    """Whether another one reads what this one assigns, or what is called the same elsewhere."""
    return any(
        column.name == assigned.this.name
        for one in others
        if one is not assigned
        for column in one.expression.find_all(exp.Column)
    )


def forget_locks(tree: exp.Expr) -> None:
    """Let the queries of a statement lock nothing."""
    for query in tree.find_all(exp.Select):
        query.set("locks", None)


def commons(tree: exp.Expr) -> list[exp.CTE]:
    """The common tables that a statement can read."""
    common: Any = tree.args.get("with_")
    if common is None and isinstance(tree.parent, exp.CTE):
        common = tree.parent.parent
    return [] if common is None else [one for one in common.expressions if one is not tree.parent]


def inlined(table: exp.Expr, known: Sequence[exp.CTE]) -> exp.Expr:
    """What stands in FROM with the queries of common tables in the place of their names."""
    query = exp.select("*").from_(table.copy())
    for common in reversed(known):  # each may read those before it
        inline(query, common)
    forget_locks(query)
    origin: Any = query.args["from_"]
    found: exp.Expr = origin.this
    return found


def inline(tree: exp.Expr, common: exp.CTE) -> None:
    """Put the query of a common table in the place of its name."""
    for table in list(tree.find_all(exp.Table)):
        if table.name == common.alias and not table.db:
            name = exp.to_identifier(table.alias or common.alias)
            table.replace(exp.Subquery(this=common.this.copy(), alias=exp.TableAlias(this=name)))
