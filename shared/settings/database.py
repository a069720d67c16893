"""The database: the truth. PostgreSQL, or MariaDB or MySQL."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import parse_qsl, urlsplit

from pydantic import Field, SecretStr, field_validator

from shared.settings import mysql
from shared.settings.base import SettingsGroup

if TYPE_CHECKING:
    # Imported where it is needed: it takes longer than all else of a liveness probe.
    from sqlalchemy import URL

#: To SQLAlchemy 2.1 a bare ``postgresql://`` means psycopg 3.
DRIVER = "postgresql+psycopg2"


#: URIs that mean the same to SQLAlchemy and to libpq, and need no parser to be believed.
_PLAIN = re.compile(
    r"(?:postgresql\+psycopg2|postgresql|postgres)"
    r"(://(?:[\w.~%-]+(?::[\w.~%-]*)?@)?[a-zA-Z0-9.-]+(?::\d{1,5})?/[\w.~%-]+(?:\?[\w.~%=&/-]*)?)"
)


class DatabaseSettings(SettingsGroup):
    sqlalchemy_database_uri: SecretStr = Field(
        SecretStr(""), description="The whole database URI; wins over the DB_ parts below."
    )
    db_type: Literal["postgresql", "mariadb", "mysql"] = Field(
        "postgresql",
        description="What serves the DB_ parts; mariadb and mysql need VECTOR_STORE=qdrant.",
    )
    db_username: str = Field("postgres", description="Database role.")
    db_password: SecretStr = Field(SecretStr(""), description="Its password.")
    db_host: str = Field("127.0.0.1", description="Database host.")
    db_port: int = Field(
        5432, ge=1, le=65535, description="Database port; of MariaDB and MySQL 3306, when unset."
    )
    db_database: str = Field("rag_worker", description="Database name.")
    sqlalchemy_pool_size: int = Field(
        40, ge=1, description="Connections a process keeps open; opened only as needed."
    )
    sqlalchemy_max_overflow: int = Field(
        0, ge=0, description="Further connections a process opens under load and closes again."
    )
    sqlalchemy_pool_timeout_seconds: float = Field(
        30, gt=0, description="How long work waits for a free connection before it is retried."
    )
    sqlalchemy_pool_recycle_seconds: int = Field(
        1800, ge=1, description="Age at which a pooled connection is replaced."
    )
    db_connect_timeout_seconds: int = Field(
        10, ge=1, description="How long opening a connection may take."
    )

    db_statement_timeout_seconds: int = Field(
        600, ge=0, description="A statement that takes longer is cancelled; 0 = never."
    )

    @field_validator("db_type")
    @classmethod
    def _must_have_a_driver(cls, value: str) -> str:
        if mysql.is_mysql(value):
            mysql.require_driver(value)
        return value

    @field_validator("sqlalchemy_database_uri")
    @classmethod
    def _must_parse(cls, value: SecretStr) -> SecretStr:
        if not value.get_secret_value() or _PLAIN.fullmatch(value.get_secret_value()):
            return value
        from sqlalchemy import make_url
        from sqlalchemy.exc import ArgumentError

        try:
            driver = make_url(value.get_secret_value()).drivername
        except (ArgumentError, ValueError):  # a port that is none may be a piece of the password
            raise ValueError(
                "not a database URI: write postgresql://user:password@host/name, "
                "special characters of the password %-encoded"
            ) from None
        if mysql.is_mysql(driver):
            mysql.require_driver(driver)
        elif driver not in {"postgresql", "postgres", DRIVER}:
            raise ValueError(
                f"{driver} is not supported: rag-worker keeps its truth in PostgreSQL, "
                "write postgresql://, or in MariaDB or MySQL, write mariadb:// or mysql://"
            )
        return value

    @property
    def is_configured(self) -> bool:
        """Whether someone named a database: then nothing embedded is started."""
        return bool(self.model_fields_set & {"sqlalchemy_database_uri", "db_host", "db_database"})

    @property
    def is_mysql(self) -> bool:
        """Whether it is MariaDB or MySQL; asked without parsing."""
        whole = self.sqlalchemy_database_uri.get_secret_value()
        return mysql.is_mysql(whole.partition("://")[0] if whole else self.db_type)

    @property
    def url(self) -> "URL":
        """The URL, on the driver that is used here whatever it was written as."""
        from sqlalchemy import URL, make_url

        whole = self.sqlalchemy_database_uri.get_secret_value()
        if whole:
            found = make_url(whole)
            return found.set(drivername=_driver(found.drivername))
        is_unset = self.is_mysql and "db_port" not in self.model_fields_set
        return URL.create(
            _driver(self.db_type),
            username=self.db_username,
            password=self.db_password.get_secret_value() or None,
            host=self.db_host,
            port=mysql.PORT if is_unset else self.db_port,
            database=self.db_database,
        )

    @property
    def uri(self) -> str:
        """``url`` as text, password included: never log it."""
        return self.url.render_as_string(hide_password=False)

    @property
    def connect_arguments(self) -> dict[str, Any]:
        """Keyword arguments of the driver's ``connect``, for whoever needs no engine."""
        if self.is_mysql:
            return mysql.connect_arguments(self.url, self._mysql_options())
        whole = self.sqlalchemy_database_uri.get_secret_value()
        plain = _PLAIN.fullmatch(whole)
        if plain:
            return {"dsn": f"postgresql{plain[1]}", **self._connect_args(_query_of(whole))}
        if whole:
            text = self.url.set(drivername="postgresql").render_as_string(hide_password=False)
            return {"dsn": text, **self._connect_args(self.url.query)}
        return {
            "user": self.db_username,
            "password": self.db_password.get_secret_value() or None,
            "host": self.db_host,
            "port": self.db_port,
            "dbname": self.db_database,
            **self._connect_args({}),
        }

    @property
    def engine_options(self) -> dict[str, Any]:
        """Keyword arguments of ``create_engine`` for the one engine of a process."""
        pool = {
            # An error is read by many; the values of its statement are not for them.
            "hide_parameters": True,
            "pool_size": self.sqlalchemy_pool_size,
            "max_overflow": self.sqlalchemy_max_overflow,
            "pool_timeout": self.sqlalchemy_pool_timeout_seconds,
            "pool_recycle": self.sqlalchemy_pool_recycle_seconds,
            # The connection used last is the one most likely alive; idle ones age out.
            "pool_use_lifo": True,
        }
        if self.is_mysql:
            return pool | self._mysql_options()
        return pool | {
            # Many updates share a round trip, as inserts do by default.
            "executemany_mode": "values_plus_batch",
            "connect_args": self._connect_args(self.url.query),
        }

    def impatient(self, connect_seconds: int, statement_seconds: float) -> dict[str, Any]:
        """The engine's ``connect_args`` for whoever cannot wait as long as the others."""
        if self.is_mysql:
            query = self.url.query
            found = mysql.engine_options(query, connect_seconds, statement_seconds)
            return {**found["connect_args"], "connect_timeout": connect_seconds}
        milliseconds = round(statement_seconds * 1000)
        return {
            **self.engine_options["connect_args"],
            "connect_timeout": connect_seconds,
            "options": f"-c timezone=UTC -c statement_timeout={milliseconds}",
        }

    def _mysql_options(self) -> dict[str, Any]:
        return mysql.engine_options(
            self.url.query, self.db_connect_timeout_seconds, self.db_statement_timeout_seconds
        )

    def _connect_args(self, named: Mapping[str, Any]) -> dict[str, Any]:
        ours = {
            "connect_timeout": self.db_connect_timeout_seconds,
            "application_name": "rag-worker",
            # A black-holed connection must end within a lease, not after the kernel's 2 hours.
            "keepalives_idle": 15,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 30_000,
        }
        # What the URI says itself wins.
        arguments = {name: value for name, value in ours.items() if name not in named}
        # A worker that waits in the database's own library hears of no deadline.
        timeout = f"-c statement_timeout={self.db_statement_timeout_seconds}s"
        options = f"-c timezone=UTC {timeout} {named.get('options', '')}"
        return arguments | {"options": options.strip()}


def _query_of(uri: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(uri).query))


def _driver(name: str) -> str:
    return mysql.DRIVERS.get(name.partition("+")[0], DRIVER)
