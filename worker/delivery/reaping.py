"""Frees what the dead hold."""

from collections.abc import Sequence

from sqlalchemy import Engine, text

from shared.models import Base
from shared.models.leased import Leased
from worker.delivery.lease import table_of

_EXPIRE = """
    UPDATE {table} SET lease_expires_at = now() - interval '1 microsecond'
    WHERE lease_owner = :owner AND lease_expires_at >= now()
"""
_RETURN = text("""
    UPDATE outbox SET published_at = NULL
    WHERE lease_owner = :owner AND published_at IS NOT NULL AND lease_expires_at < now()
""")
# A node's processes are called ``node/pid``.
_EXPIRE_NODE = """
    UPDATE {table} SET lease_expires_at = now() - interval '1 microsecond'
    WHERE starts_with(lease_owner, :node || '/') AND lease_owner <> ALL(:spared)
      AND lease_expires_at >= now()
"""
_RETURN_NODE = text("""
    UPDATE outbox SET published_at = NULL
    WHERE starts_with(lease_owner, :node || '/') AND lease_owner <> ALL(:spared)
      AND published_at IS NOT NULL AND lease_expires_at < now()
""")


def leased_tables() -> list[str]:
    """Every table with lease columns."""
    mapped = (mapper.class_ for mapper in Base.registry.mappers)
    return sorted(table_of(one).name for one in mapped if issubclass(one, Leased))


def expire_leases_of(engine: Engine, owner: str) -> None:
    """End the leases of a process that is known to be dead, and publish its messages again.

    They run out instead of being given back: the death counts.
    """
    with engine.begin() as connection:
        for table in leased_tables():
            connection.execute(text(_EXPIRE.format(table=table)), {"owner": owner})
        connection.execute(_RETURN, {"owner": owner})


def expire_leases_of_node(engine: Engine, node: str, spared: Sequence[str] = ()) -> None:
    """The same for all processes of a worker but ``spared``, who are its successor's."""
    values = {"node": node, "spared": list(spared)}
    with engine.begin() as connection:
        for table in leased_tables():
            connection.execute(text(_EXPIRE_NODE.format(table=table)), values)
        connection.execute(_RETURN_NODE, values)
