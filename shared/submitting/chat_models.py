"""Which chat model serves a tenant, what it may spend, and what it has spent."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

from pydantic import SecretStr
from sqlalchemy import delete, select, text
from sqlalchemy.orm import Session

from shared.errors import InvalidRequest, NotFound
from shared.models import Tenant, TenantChatModel
from shared.settings.generation import GenerationSettings, plain_url
from shared.submitting.ids import AnyId, checked_id
from shared.submitting.sealing import SealingKeys, seal

_SPENT_TODAY = text("""
    SELECT coalesce(sum(input_tokens + output_tokens), 0)::bigint AS tokens,
           coalesce(sum(cost), 0) AS cost
    FROM token_uses
    WHERE tenant_id = :tenant_id AND created_at >= date_trunc('day', now() AT TIME ZONE 'UTC')
                                                  AT TIME ZONE 'UTC'
""")
_MOST_NAME_CHARACTERS = 255
#: The least and the most of each number.
_BOUNDS = {
    "context_tokens": (1024, 10_000_000),
    "tokens_per_day": (0, 10**15),
    "input_cost_per_million": (0, 10**9),
    "output_cost_per_million": (0, 10**9),
}


@dataclass(frozen=True, slots=True)
class ChatModelChoice:
    """What serves a tenant: its own values over the settings'.

    Attributes:
        model: empty: none is configured, sentences of the texts are picked.
        key: of ``base_url``.
        tokens_per_day: 0: no limit.
        is_own: whether the tenant has a row of its own.
    """

    base_url: str
    model: str
    key: SecretStr
    context_tokens: int
    tokens_per_day: int
    input_cost_per_million: Decimal
    output_cost_per_million: Decimal
    is_own: bool


@dataclass(frozen=True, slots=True)
class Spent:
    """What a tenant spent since the day began (UTC)."""

    tokens: int
    cost: Decimal


@dataclass(frozen=True, slots=True)
class ChatModelChange:
    """What a tenant is given of its own; what is ``None`` stays as it is.

    Attributes:
        base_url: where the model answers, up to the version; a new one drops the old one's key.
        key: the bearer token for ``base_url``.
        context_tokens: what the model takes, its answer included.
        tokens_per_day: 0: no limit.
        input_cost_per_million: of tokens sent.
        output_cost_per_million: of tokens written.
    """

    base_url: str | None = None
    model: str | None = None
    key: SecretStr | None = None
    context_tokens: int | None = None
    tokens_per_day: int | None = None
    input_cost_per_million: float | None = None
    output_cost_per_million: float | None = None


def set_chat_model(
    session: Session, tenant_id: AnyId, change: ChatModelChange, secret_key: SecretStr
) -> None:
    """Give a tenant a chat model, a budget or prices of its own, in the caller's transaction.

    Whoever may call this names a server that workers connect to.

    Args:
        session: the caller's transaction.
        tenant_id: whose.
        change: what is set.
        secret_key: seals the key.

    Raises:
        NotFound: there is no such tenant.
        InvalidRequest: a value cannot be.
    """
    tenant = checked_id("tenant_id", tenant_id)
    if session.get(Tenant, tenant) is None:
        raise NotFound(f"there is no tenant {tenant}")
    row = session.get(TenantChatModel, tenant, with_for_update=True)
    if row is None:
        row = TenantChatModel(tenant_id=tenant)
        session.add(row)
    if change.base_url is not None and (wanted := _checked_url(change.base_url)) != row.base_url:
        # The key belongs to the old server: it must not go to another.
        row.base_url, row.sealed_key = wanted, None
    if change.key is not None:
        if row.base_url is None:
            raise InvalidRequest("name the base_url together with the key: it belongs to it")
        row.sealed_key = seal({"key": change.key.get_secret_value()}, secret_key)
    if change.model is not None:
        row.model = _checked_name(change.model)
    for name, (least, most) in _BOUNDS.items():
        if (value := getattr(change, name)) is not None:
            if not least <= value <= most:
                raise InvalidRequest(f"{name} is between {least:,} and {most:,} (got {value})")
            setattr(row, name, value)
    session.flush()


def delete_chat_model(session: Session, tenant_id: AnyId) -> bool:
    """Leave a tenant to the settings again; returns whether it had anything of its own."""
    tenant = checked_id("tenant_id", tenant_id)
    done = session.execute(
        delete(TenantChatModel)
        .where(TenantChatModel.tenant_id == tenant)
        .returning(TenantChatModel.tenant_id)
    )
    return done.one_or_none() is not None


def chat_model_of(
    session: Session, tenant_id: AnyId, settings: GenerationSettings, keys: SealingKeys
) -> ChatModelChoice:
    """What serves a tenant.

    Raises:
        ConfigurationError: its key was sealed with another SECRET_KEY.
    """
    row = session.get(TenantChatModel, checked_id("tenant_id", tenant_id))
    own = row or TenantChatModel()
    key = settings.generation_api_key if own.base_url is None else SecretStr("")
    if own.sealed_key is not None:
        key = SecretStr(str(keys.open(own.sealed_key)["key"]))
    return ChatModelChoice(
        base_url=own.base_url or settings.generation_base_url,
        model=own.model or settings.generation_model,
        key=key,
        context_tokens=_first(own.context_tokens, settings.generation_context_tokens),
        tokens_per_day=_first(own.tokens_per_day, settings.generation_tokens_per_day),
        input_cost_per_million=Decimal(
            str(_first(own.input_cost_per_million, settings.generation_input_cost_per_million))
        ),
        output_cost_per_million=Decimal(
            str(_first(own.output_cost_per_million, settings.generation_output_cost_per_million))
        ),
        is_own=row is not None,
    )


def spent_today(session: Session, tenant_id: AnyId) -> Spent:
    """What a tenant spent since the day began (UTC)."""
    row = session.execute(_SPENT_TODAY, {"tenant_id": checked_id("tenant_id", tenant_id)}).one()
    return Spent(int(row.tokens), Decimal(row.cost))


def tenant_named(session: Session, name: str) -> UUID:
    """The id of a tenant.

    Raises:
        NotFound: there is none of this name.
    """
    found = session.scalars(select(Tenant.id).where(Tenant.name == name)).one_or_none()
    if found is None:
        raise NotFound(f"there is no tenant {name!r}")
    return found


def _first(own: Any, default: Any) -> Any:
    return default if own is None else own


def _checked_url(url: str) -> str:
    try:
        return plain_url(url, key="key")
    except ValueError as error:
        raise InvalidRequest(f"base_url {error} (got {url!r})") from None


def _checked_name(model: str) -> str:
    if not model.strip() or not model.isprintable() or len(model) > _MOST_NAME_CHARACTERS:
        raise InvalidRequest(f"model: {model!r} is no model's name")
    return model
