"""Where a tenant's traces go: set, changed, deleted; what waits for the old one is cancelled.

An app's own configurations go before its tenant's. Secrets are sealed with SECRET_KEY,
and no call gives them back but ``target_of``, which is for sending.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import delete, func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from shared.errors import ConfigurationError, InvalidRequest, NotFound
from shared.models import Tenant, TraceConfig
from shared.submitting.files import storable
from shared.submitting.ids import AnyId, checked_id
from shared.submitting.sealing import SealingKeys, seal
from shared.submitting.trace_providers import check_config, provider_of
from shared.submitting.urls import checked_url

MASK = "********"
_APP_CHARACTERS = 256
_ENDPOINT_CHARACTERS = 2048

# The token too: whoever sends one of them at this moment writes nothing of it any more.
_CANCEL = text("""
    UPDATE trace_deliveries
    SET status = 'cancelled', ended_at = statement_timestamp(),
        error = CAST(:reason AS text)
            || CASE status WHEN 'sending' THEN :being_sent ELSE '' END,
        lease_token = lease_token + 1, lease_expires_at = NULL, lease_owner = NULL
    WHERE config_id = :config_id AND status IN ('waiting', 'sending')
""")
_BEING_SENT = " (while it was being sent: it may have arrived)"


@dataclass(frozen=True, slots=True)
class TraceTarget:
    """A configuration as a sender needs it.

    Attributes:
        endpoint: the provider's own cloud, when unset.
        secrets: by name, opened.
        options: what is no secret.
    """

    config_id: UUID
    version: int
    tenant_id: UUID
    provider: str
    endpoint: str | None
    secrets: Mapping[str, Any] = field(repr=False)
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ConfigChange:
    """What setting a configuration came to.

    Attributes:
        is_changed: false when it was so already; nothing was cancelled then.
        cancelled: deliveries that waited for what it was before.
    """

    config_id: UUID
    version: int
    is_changed: bool
    cancelled: int


@dataclass(frozen=True, slots=True)
class ConfigDraft:
    """A configuration as somebody wants it.

    Attributes:
        provider: see ``trace_providers.PROVIDERS``.
        app_id: of this app only; of all that have none of their own, when unset.
        endpoint: the provider's address; its own cloud, when unset.
        secrets: those that are missing, or that are the mask, stay as they were, for
            the same endpoint.
        options: all of them.
        is_enabled: false sends nothing: traces are recorded as disabled.
    """

    provider: str
    app_id: str | None = None
    endpoint: str | None = None
    secrets: Mapping[str, Any] = field(default_factory=dict, repr=False)
    options: Mapping[str, Any] = field(default_factory=dict)
    is_enabled: bool = True


def set_trace_config(
    session: Session, tenant_id: AnyId, draft: ConfigDraft, *, keys: SealingKeys
) -> ConfigChange:
    """Make or change a configuration, in the caller's transaction.

    What waits for what it was before is cancelled, and says so.

    Args:
        session: the caller's.
        tenant_id: whose traces.
        draft: what is wanted.
        keys: seal the secrets.

    Raises:
        InvalidRequest: something is missing, unknown or of the wrong type.
        UnusableUrl: the endpoint is none.
        NotFound: there is no such tenant.
        ConfigurationError: there are secrets, and no SECRET_KEY to seal them with.
    """
    provider, tenant = provider_of(draft.provider), checked_id("tenant_id", tenant_id)
    app_id, endpoint = _checked_app(draft.app_id), _checked_endpoint(draft.endpoint)
    row = _found(session, tenant, app_id, provider.name)
    options = dict(draft.options)
    check_config(provider, endpoint, _kept_secrets(row, draft, endpoint, keys), options)
    if row is None:
        row = _made(session, tenant, app_id, provider.name)
    secrets = _kept_secrets(row, draft, endpoint, keys)
    wanted = (endpoint, options, draft.is_enabled)
    is_same = (row.endpoint, row.options, row.is_enabled) == wanted
    if row.version and is_same and _known_secrets(row, keys) == secrets:
        return ConfigChange(row.id, row.version, is_changed=False, cancelled=0)
    if secrets and not keys.current.get_secret_value():
        raise ConfigurationError(
            "SECRET_KEY is empty, and a provider's secrets are stored encrypted or not at all: "
            "set it to 32 or more random bytes"
        )
    row.endpoint, row.options, row.is_enabled = wanted
    row.secrets = seal(secrets, keys.current) if secrets else None
    row.version += 1
    row.updated_at = func.statement_timestamp()
    session.flush()
    said = "changed" if draft.is_enabled else "switched off"
    cancelled = cancel_waiting(session, row.id, f"its configuration was {said}")
    return ConfigChange(row.id, row.version, is_changed=True, cancelled=cancelled)


def delete_trace_config(
    session: Session, tenant_id: AnyId, provider: str, *, app_id: str | None = None
) -> int:
    """Delete a configuration, in the caller's transaction; what waits for it is cancelled.

    Returns:
        How many deliveries were cancelled.

    Raises:
        NotFound: there is none.
    """
    tenant = checked_id("tenant_id", tenant_id)
    row = _found(session, tenant, app_id, provider)
    if row is None:
        raise NotFound(f"{_whose(tenant, app_id)} has no configuration of {provider}")
    cancelled = cancel_waiting(session, row.id, "its configuration was deleted")
    session.execute(delete(TraceConfig).where(TraceConfig.id == row.id))
    return cancelled


def trace_configs(session: Session, tenant_id: AnyId | None = None) -> list[TraceConfig]:
    """A tenant's configurations, or everybody's: the tenant-wide ones first."""
    query = select(TraceConfig).order_by(
        TraceConfig.tenant_id, TraceConfig.app_id.nulls_first(), TraceConfig.provider
    )
    if tenant_id is not None:
        query = query.where(TraceConfig.tenant_id == checked_id("tenant_id", tenant_id))
    return list(session.scalars(query))


def configs_for(session: Session, tenant_id: UUID, app_id: str | None) -> list[TraceConfig]:
    """Those that an app's traces are sent by: its own, if it has any, else the tenant's.

    Raises:
        NotFound: there is no such tenant.
    """
    query = (
        select(Tenant.id, TraceConfig)
        .outerjoin(
            TraceConfig,
            (TraceConfig.tenant_id == Tenant.id)
            & (TraceConfig.app_id.is_(None) | (TraceConfig.app_id == app_id)),
        )
        .where(Tenant.id == tenant_id)
        .order_by(TraceConfig.provider)
    )
    rows = session.execute(query).all()
    if not rows:
        raise NotFound(f"there is no tenant {tenant_id}")
    found: Sequence[TraceConfig] = [row[1] for row in rows if row[1] is not None]
    own = [one for one in found if one.app_id is not None]
    return [one for one in own or found if one.is_enabled]


def target_of(row: TraceConfig, keys: SealingKeys) -> TraceTarget:
    """A configuration with its secrets opened, for sending.

    Raises:
        ConfigurationError: they were sealed with another key, or were invalidated.
    """
    try:
        opened = keys.open(row.secrets) if row.secrets else {}
    except ConfigurationError:
        raise ConfigurationError(
            f"the secrets of {row.provider} were sealed with another SECRET_KEY: add it to "
            "SECRET_KEY_PREVIOUS, or set them again by `rag-worker traces config set`"
        ) from None
    try:
        check_config(provider_of(row.provider), row.endpoint, opened, row.options)
    except InvalidRequest as error:
        raise ConfigurationError(f"{error}: `rag-worker traces config set`") from None
    return TraceTarget(
        row.id, row.version, row.tenant_id, row.provider, row.endpoint, opened, row.options
    )


def shown_config(row: TraceConfig, keys: SealingKeys) -> dict[str, Any]:
    """A configuration for people and scripts; of secrets, the names."""
    names: Any
    try:
        opened = keys.open(row.secrets) if row.secrets else {}
        names = {
            name: dict.fromkeys(value, MASK) if isinstance(value, dict) else MASK
            for name, value in opened.items()
        }
    except ConfigurationError:
        names = "cannot be opened: sealed with another SECRET_KEY"
    return {
        "id": str(row.id),
        "tenant_id": str(row.tenant_id),
        "app_id": row.app_id,
        "provider": row.provider,
        "endpoint": row.endpoint,
        "secrets": names,
        "options": row.options,
        "version": row.version,
        "is_enabled": row.is_enabled,
        "updated_at": row.updated_at.isoformat(),
    }


def cancel_waiting(session: Session, config_id: UUID, reason: str) -> int:
    """Cancel what waits for a configuration or is being sent by it; returns how many."""
    values = {"config_id": config_id, "reason": storable(reason), "being_sent": _BEING_SENT}
    done: Any = session.execute(_CANCEL, values)
    return int(done.rowcount)


def _found(session: Session, tenant: UUID, app_id: str | None, provider: str) -> TraceConfig | None:
    query = select(TraceConfig).where(
        TraceConfig.tenant_id == tenant,
        TraceConfig.app_id.is_not_distinct_from(app_id),
        TraceConfig.provider == provider,
    )
    fresh = query.with_for_update().execution_options(populate_existing=True)
    return session.scalars(fresh).one_or_none()


def _made(session: Session, tenant: UUID, app_id: str | None, provider: str) -> TraceConfig:
    if session.get(Tenant, tenant) is None:
        raise NotFound(f"there is no tenant {tenant}")
    # Of two who make it at once, one waits for the other and changes what that one made.
    session.execute(
        insert(TraceConfig)
        .values(tenant_id=tenant, app_id=app_id, provider=provider, version=0, options={})
        .on_conflict_do_nothing()
    )
    row = _found(session, tenant, app_id, provider)
    if row is None:
        raise NotFound(f"{_whose(tenant, app_id)} lost its configuration of {provider}: again")
    return row


def _kept_secrets(
    row: TraceConfig | None, draft: ConfigDraft, endpoint: str | None, keys: SealingKeys
) -> dict[str, Any]:
    # They belong to the old server: whoever may name another must not get them.
    is_there = row is not None and row.endpoint == endpoint
    known = _known_secrets(row, keys) if row is not None and is_there else None
    given = {name: value for name, value in draft.secrets.items() if value != MASK}
    return {**(known or {}), **given}


def _known_secrets(row: TraceConfig, keys: SealingKeys) -> dict[str, Any] | None:
    try:
        return keys.open(row.secrets) if row.secrets else {}
    except ConfigurationError:
        return None  # they are lost: only what is given now counts


def _checked_app(app_id: str | None) -> str | None:
    if app_id is None:
        return None
    is_text = isinstance(app_id, str) and 0 < len(app_id) <= _APP_CHARACTERS
    if not is_text or storable(app_id) != app_id:
        raise InvalidRequest(f"app_id is a text of up to {_APP_CHARACTERS} characters")
    return app_id


def _checked_endpoint(endpoint: str | None) -> str | None:
    if not endpoint:
        return None
    url = checked_url(endpoint).rstrip("/")
    if "?" in url or len(url) > _ENDPOINT_CHARACTERS:
        raise InvalidRequest(
            "an endpoint has no query, and is short: what is secret belongs into the secrets"
        )
    return url


def _whose(tenant: UUID, app_id: str | None) -> str:
    return f"tenant {tenant}" + (f", app {app_id!r}" if app_id else "")
