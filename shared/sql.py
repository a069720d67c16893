"""Statements that the databases do not share."""

from sqlalchemy import TextClause, text


def text_by_database(postgresql: str, *, mariadb: str) -> TextClause:
    """A statement with words of its own for MariaDB, where PostgreSQL's are not carried over.

    Both take the same parameters. Of a list, MariaDB's takes ``:LIST__name`` in ``x IN
    :LIST__name``, or ``:IDS__name`` of ids; of several lists of one length,
    ``:ZIP__one__other`` is JSON of their rows.
    """
    statement = text(postgresql)
    statement.mariadb = mariadb  # type: ignore[attr-defined]
    return statement
