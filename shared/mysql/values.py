"""Values on their way to MariaDB, in forms that it stores, and back, as PostgreSQL gives them."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from pymysql.constants import FIELD_TYPE
from sqlalchemy import ARRAY, JSON, Boolean, MetaData, Uuid
from sqlalchemy.types import TypeEngine

from shared.mysql.words import IDENTIFIERS, LISTED, ZIPPED

Decoder = Callable[[Any], Any]

_MADE = re.compile(rf"%\(({LISTED}|{IDENTIFIERS}|{ZIPPED})(\w+)\)s")
_HEX = re.compile(r"[0-9a-f]{32}")
_MEMBERS = re.compile(rf"(\([^()]+\)|\S+) IN %\((?:{LISTED}|{IDENTIFIERS})(\w+)\)s")
#: Bytes that a CHAR(32) may take on the wire, by the connection's character set.
_UUID_LENGTHS = {32, 128}
_TEXTS = {FIELD_TYPE.STRING, FIELD_TYPE.VAR_STRING}
_TIMES = {FIELD_TYPE.DATETIME, FIELD_TYPE.TIMESTAMP}
_NUMBERS = {FIELD_TYPE.TINY, FIELD_TYPE.LONG, FIELD_TYPE.LONGLONG}


def encoded(statement: str, parameters: Any) -> Any:
    """The parameters as PyMySQL takes them, with the lists that the statement makes of them."""
    if not isinstance(parameters, Mapping):
        return None if parameters is None else [stored(one) for one in parameters]
    ready = {name: stored(value) for name, value in parameters.items()}
    for kind, names in _MADE.findall(statement):
        if kind == LISTED:
            ready[kind + names] = _listed(parameters.get(names))
        elif kind == IDENTIFIERS:
            ready[kind + names] = _identifiers(parameters.get(names))
        else:
            arrays = [parameters[name] or () for name in names.split("__")]
            rows = zip(*arrays, strict=True)
            ready[ZIPPED + names] = json.dumps([[_element(one) for one in row] for row in rows])
    return ready


def with_lists(statement: str, parameters: Any) -> str:
    """The statement with an empty set in the place of each list that is empty."""

    def chosen(found: re.Match[str]) -> str:
        if parameters.get(found[2]):
            return found[0]
        nothing = ", ".join(["NULL"] * (found[1].count(",") + 1))
        return f"{found[1]} IN (SELECT {nothing} FROM DUAL WHERE FALSE)"  # noqa: S608 - no input

    return _MEMBERS.sub(chosen, statement) if isinstance(parameters, Mapping) else statement


def stored(value: Any) -> Any:
    """One value in the form that is stored."""
    if isinstance(value, UUID):
        return value.hex
    if isinstance(value, datetime):
        return value if value.tzinfo is None else value.astimezone(UTC).replace(tzinfo=None)
    if isinstance(value, (list, tuple, dict)):
        return json.dumps(value, default=_within, ensure_ascii=False)
    if isinstance(value, memoryview):
        return bytes(value)
    return value


def _listed(values: Sequence[Any] | None) -> tuple[Any, ...]:
    return tuple(
        tuple(stored(part) for part in one) if isinstance(one, tuple) else stored(one)
        for one in values or ()
    )


def _identifiers(values: Sequence[Any] | None) -> tuple[Any, ...]:
    given = [UUID(one) if isinstance(one, str) else one for one in values or ()]
    return _listed(given)


def _element(value: Any) -> Any:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, (bytes, memoryview)):
        return bytes(value).hex()
    if isinstance(value, (datetime, date)):
        return str(stored(value))
    return stored(value)


def _within(value: Any) -> Any:
    if isinstance(value, UUID):
        return value.hex
    if isinstance(value, (bytes, memoryview)):
        return bytes(value).hex()
    raise TypeError(f"{type(value).__name__} is no part of JSON")


class Decoders:
    """Which column of a result is read how; by the models where it comes from a table."""

    def __init__(self, metadata: MetaData) -> None:
        self._columns: dict[tuple[str, str], Decoder] = {}
        names: dict[str, set[Decoder | None]] = {}
        for table in metadata.tables.values():
            for column in table.columns:
                decoder = _decoder(column.type)
                names.setdefault(column.name, set()).add(decoder)
                if decoder is not None:
                    self._columns[table.name, column.name] = decoder
        # A derived table does not say where its columns come from: then the name does.
        self._names = {
            name: decoder
            for name, found in names.items()
            if len(found) == 1 and (decoder := next(iter(found))) is not None
        }

    def of(self, field: Any) -> Decoder | None:
        """How the values of a column of a result are read; None when they are right as they are.

        Args:
            field: PyMySQL's description of the column.
        """
        if field.org_table:
            known = self._columns.get((field.org_table, field.org_name))
        else:
            known = self._names.get(field.name)
        return known or _by_form(field)


def _by_form(field: Any) -> Decoder | None:
    kind = field.type_code
    if kind in _TIMES:
        return _aware
    if kind == FIELD_TYPE.NEWDECIMAL and field.scale == 0:
        return _whole
    if kind in _TEXTS and field.length in _UUID_LENGTHS:
        return _uuid
    if kind in _NUMBERS and field.length == 1:
        return _boolean
    return None


def _decoder(kind: TypeEngine[Any]) -> Decoder | None:
    if isinstance(kind, Uuid):
        return _uuid
    if isinstance(kind, ARRAY):
        return _uuids_from_json if isinstance(kind.item_type, Uuid) else from_json
    if isinstance(kind, JSON):
        return from_json
    if isinstance(kind, Boolean):
        return _boolean
    return None


def _uuid(value: Any) -> Any:
    return UUID(hex=value) if isinstance(value, str) and _HEX.fullmatch(value) else value


def _aware(value: Any) -> Any:
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) else value


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, Decimal) else value


def _boolean(value: Any) -> Any:
    return bool(value) if isinstance(value, int) else value


def from_json(value: Any) -> Any:
    """What a JSON text holds."""
    return json.loads(value) if isinstance(value, (str, bytes)) else value


def _uuids_from_json(value: Any) -> Any:
    found = from_json(value)
    return [_uuid(one) for one in found] if isinstance(found, list) else found
