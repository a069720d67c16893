"""Statements of PostgreSQL's SQL as one or several of MariaDB's.

MariaDB has no UPDATE ... RETURNING, no statements within WITH, and locks no rows in subqueries that
it skips. So such a statement becomes steps: the rows are locked and their keys read, they are
changed by their keys, and what was asked for is read. All run in the caller's transaction.
"""

import re
from typing import Any

import sqlglot
from sqlglot import exp

from shared.mysql.expressions import rewritten
from shared.mysql.targets import Tables, Target, Untranslated, forget_locks, in_order, inline
from shared.mysql.words import raw, sql
from shared.mysql.writing import CONDITIONAL

#: Of migrations and the like: written for the one database.
_OTHERS = re.compile(r"\s*(CREATE|DROP|ALTER|SHOW|DO|SET (?!LOCAL|CONSTRAINTS))", re.IGNORECASE)
#: Between the steps of a statement.
SEPARATOR = "\n/* then */\n"
#: Before a step that reads the keys of rows and locks them, with the name of the list.
LOCKING = "/* keys: {} */ "
#: Before a step whose rows are the statement's.
ANSWERING = "/* rows */ "


def translated(source: str, tables: Tables, dialect: str = "postgres") -> str:
    """The statement for MariaDB; several steps are parted by ``SEPARATOR``.

    Args:
        source: The statement, its parameters as ``:name``.
        tables: What there is in the database.
        dialect: Whose syntax it has, as sqlglot calls it.

    Raises:
        Untranslated: no rule carries it over.
    """
    if _OTHERS.match(source):
        return source
    steps: list[str] = []
    for tree in sqlglot.parse(source, read=dialect):
        if tree is None or isinstance(tree, (exp.Set, exp.Command)):
            continue  # the server's settings for one transaction: PostgreSQL's alone
        steps += _Steps(tables, source, len(steps)).of(tree)
    if not steps:
        return "DO 0"
    return SEPARATOR.join(steps)


class _Steps:
    def __init__(self, tables: Tables, source: str, number: int) -> None:
        self._tables = tables
        self._source = source
        self._number = number
        self._lists = 0

    def of(self, tree: exp.Expr) -> list[str]:
        tree = tree.copy()
        before: list[str] = []
        after: list[str] = []
        for common in self._changes_within(tree):
            earlier, later = self._taken_out(common)
            before += earlier
            after += later
        if isinstance(tree, exp.Update):
            steps = self._update(tree)
        elif isinstance(tree, exp.Delete):
            steps = self._delete(tree)
        elif isinstance(tree, exp.Insert):
            steps = [self._insert(tree)]
        else:
            steps = [self._text(tree)]
        if before or after:
            return [*before, *(_answering(one) for one in steps), *after]
        return steps

    def _changes_within(self, tree: exp.Expr) -> list[exp.CTE]:
        return [
            one
            for one in tree.find_all(exp.CTE)
            if isinstance(one.this, (exp.Update, exp.Delete, exp.Insert))
        ]

    def _taken_out(self, common: exp.CTE) -> tuple[list[str], list[str]]:
        """The steps before and after the statement, in which only a SELECT is left."""
        change: Any = common.this
        if isinstance(change, exp.Insert):
            raise Untranslated("an INSERT within WITH")
        scope: Any = common.parent
        for earlier in [one for one in scope.expressions if one is not common]:
            inline(change, earlier)
        returning = change.args.get("returning")
        if returning is None:
            raise Untranslated("a change within WITH that returns nothing")
        target = Target(change, self._tables)
        name = self._new_list()
        lock = self._locking(change, target, name)
        rows = target.read(returning.expressions, name)
        common.set("this", rows)
        for earlier in [one for one in scope.expressions if one is not common]:
            if not _is_used(scope.parent, earlier):
                earlier.pop()
        if isinstance(change, exp.Delete):
            return [lock], [self._text(target.deletion(name))]
        return [lock, self._changing(change, target, name)], []

    def _update(self, tree: exp.Update) -> list[str]:
        target = Target(tree, self._tables)
        returning = tree.args.get("returning")
        is_plain = not (target.others() or tree.args.get("with_") or _skips(tree))
        if returning is None and is_plain:
            forget_locks(tree)
            tree.set("expressions", in_order(tree.expressions))
            return [self._text(tree)]
        name = self._new_list()
        steps = [
            self._locking(tree, target, name),
            self._changing(tree, target, name),
        ]
        if returning is not None:
            rows = target.read(returning.expressions, name)
            steps.append(_answering(self._text(rows)))
        else:
            steps[-1] = _answering(steps[-1])
        return steps

    def _delete(self, tree: exp.Delete) -> list[str]:
        target = Target(tree, self._tables)
        returning = tree.args.get("returning")
        is_plain = not (target.others() or tree.args.get("with_") or _skips(tree))
        if returning is None and is_plain:
            forget_locks(tree)
            if target.name != target.table:
                tree.set("tables", [exp.to_table(target.name)])
            return [self._text(tree)]
        name = self._new_list()
        lock = self._locking(tree, target, name)
        deletion = self._text(target.deletion(name))
        if returning is None:
            return [lock, _answering(deletion)]
        rows = self._text(target.read(returning.expressions, name))
        return [lock, _answering(rows), deletion]

    def _locking(self, tree: exp.Expr, target: "Target", name: str) -> str:
        chosen = exp.Select(expressions=[exp.column(one, target.name) for one in target.key])
        chosen = chosen.from_(target.reference())
        for other in target.others():
            chosen = chosen.join(other.copy(), join_type="CROSS")
        asked = target.condition()
        if asked is not None:
            chosen = chosen.where(asked)
        common = tree.args.get("with_")
        if common is not None:
            chosen.set("with_", common.copy())
        lock = exp.Lock(update=True, wait=False if _skips(tree) else None)
        forget_locks(chosen)
        # In order: of two at once one waits for the other.
        chosen = chosen.order_by(*(exp.column(one, target.name) for one in target.key))
        chosen.set("locks", [lock])
        return LOCKING.format(name) + self._text(chosen)

    def _changing(self, tree: exp.Update, target: "Target", name: str) -> str:
        assigned = in_order(
            [
                exp.EQ(
                    this=exp.column(one.this.name, target.name),
                    expression=target.qualified(one.expression),
                )
                for one in tree.expressions
            ]
        )
        condition: Any = target.is_one_of(name)
        used = target.used(assigned)
        if used:
            asked = target.condition()
            if asked is not None:
                condition = exp.and_(condition, asked)
            forget_locks(condition)
        words = f"UPDATE {self._expression(target.reference())}"
        for other in used:
            words += f" CROSS JOIN {self._expression(other)}"
        words += " SET " + ", ".join(self._expression(one) for one in assigned)
        return f"{words} WHERE {self._expression(condition)}"

    def _insert(self, tree: exp.Insert) -> str:
        conflict = tree.args.get("conflict")
        returning = tree.args.get("returning")
        table: Any = tree.find(exp.Table)
        known, name = table.alias, table.name
        if known:
            table.set("alias", None)
            for column in tree.find_all(exp.Column):
                if column.table == known:
                    column.set("table", exp.to_identifier(name))
        tree.set("conflict", None)
        tree.set("returning", None)
        ending = ""
        if conflict is not None:
            if conflict.args.get("action") and conflict.expressions:
                ending = " ON DUPLICATE KEY UPDATE " + self._assignments(conflict, name)
            else:
                tree.set("ignore", True)  # noqa: FBT003 - sqlglot's signature
        if returning is not None:
            ending += " RETURNING " + ", ".join(
                self._expression(_unqualified(one)) for one in returning.expressions
            )
        query = tree.expression
        common = tree.args.get("with_")
        if common is not None:
            # It belongs to the query there.
            tree.set("with_", None)
            query.set("with_", common)
        if (
            isinstance(query, exp.Select)
            and not query.args.get("from_")
            and query.args.get("where")
        ):
            query.from_(exp.Table(this=exp.Var(this="DUAL")), copy=False)
        return self._text(tree) + ending

    def _assignments(self, conflict: exp.OnConflict, table: str) -> str:
        where = conflict.args.get("where")
        condition = None if where is None else where.this
        assigned = list(conflict.expressions)
        if condition is not None:
            # They are assigned one after the other: what the condition reads changes last.
            read = {one.name for one in condition.find_all(exp.Column)}
            assigned.sort(key=lambda one: one.this.name in read)
            if sum(one.this.name in read for one in assigned) > 1:
                raise Untranslated("a condition on several columns that are assigned")
        words = []
        for one in assigned:
            name = one.this.name
            value = self._expression(self._excluded(one.expression, table))
            if condition is not None:
                holds = self._expression(self._excluded(condition, table))
                value = f"IF({holds}, {value}, {table}.{name})"
            words.append(f"{name} = {value}")
        return (CONDITIONAL if condition is not None else "") + " " + ", ".join(words)

    def _excluded(self, node: exp.Expr, table: str) -> exp.Expr:
        def replaced(one: exp.Expr) -> exp.Expr:
            if isinstance(one, exp.Column):
                if one.table == "excluded":
                    return raw(f"VALUES({one.name})")
                if not one.table:
                    return exp.column(one.name, table)
            return one

        return node.copy().transform(replaced)

    def _new_list(self) -> str:
        self._lists += 1
        return f"keys_{self._number}_{self._lists}"

    def _text(self, tree: exp.Expr) -> str:
        for query in list(tree.find_all(exp.Select)):
            _bound_subquery(query)
        return sql(rewritten(tree, self._source, self._tables.identifiers))

    def _expression(self, node: exp.Expr) -> str:
        return self._text(node.copy())


def _answering(words: str) -> str:
    return words if words.startswith(ANSWERING) else ANSWERING + words


def _skips(tree: exp.Expr) -> bool:
    return any(one.args.get("wait") is False for one in tree.find_all(exp.Lock))


def _is_used(tree: exp.Expr, common: exp.CTE) -> bool:
    return any(
        table.name == common.alias and table.find_ancestor(exp.CTE) is not common
        for table in tree.find_all(exp.Table)
    )


def _unqualified(node: exp.Expr) -> exp.Expr:
    node = node.copy()
    for column in node.find_all(exp.Column):
        column.set("table", None)
    return node


def _bound_subquery(query: exp.Select) -> None:
    """MariaDB bounds no subquery of IN; one within another it does."""
    parent = query.parent
    within = parent.parent if isinstance(parent, exp.Subquery) else parent
    if isinstance(within, exp.In) and query.args.get("limit") is not None:
        inner = query.copy()
        inner.set("locks", None)
        outer = exp.select("*").from_(inner.subquery("bounded"))
        query.replace(outer)
