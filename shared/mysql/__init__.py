"""MariaDB beside PostgreSQL: what is written in PostgreSQL's SQL is carried over and run there."""

from shared.mysql.execution import Cursor, install

__all__ = ["Cursor", "install"]
