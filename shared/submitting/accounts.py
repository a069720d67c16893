"""People and their tenants: what an operator makes and mends by hand."""

import secrets
import string
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from shared.errors import InvalidRequest, NotFound
from shared.models import Account, AccountStatus, Role, Tenant, TenantAccountJoin
from shared.submitting.mail_address import mail_address
from shared.submitting.mail_kinds import LANGUAGES

_MIN_CHARACTERS = 8
_MAX_CHARACTERS = 256
_MADE_CHARACTERS = 16
_ALPHABET = string.ascii_letters + string.digits
_MAX_NAME = 255


@dataclass(frozen=True, slots=True)
class NewTenant:
    """A tenant with its owner.

    Attributes:
        password: the owner's, if one was made for a new account; nobody can read it again.
    """

    tenant_id: UUID
    account_id: UUID
    name: str
    email: str
    password: str | None


def create_tenant(
    session: Session,
    email: object,
    name: str = "",
    language: str = "en-US",
    password: str | None = None,
) -> NewTenant:
    """Make a tenant and its owner, in the caller's transaction.

    Args:
        session: the caller's.
        email: of the owner: an account that has it becomes the owner, else one is made.
        name: of the tenant; empty means after the owner.
        language: of a new account.
        password: of a new account; ``None`` makes one.

    Raises:
        InvalidRequest: no address, name, language or password that can be taken; or the
            name is taken already, or an account that is there is given a password.
    """
    address = mail_address(email)
    local = address.partition("@")[0]
    tenant = Tenant(name=_named(name or f"{local}'s workspace"))
    if language not in LANGUAGES:
        raise InvalidRequest(f"no such language: {language!r}; there are {', '.join(LANGUAGES)}")
    account, made = _find(session, address), None
    if account is None:
        made = made_password() if password is None else password
        account = Account(
            name=local,
            email=address,
            language=language,
            password_hash=_hashed(made),
            status=AccountStatus.ACTIVE,
        )
        session.add(account)
    elif password is not None:
        raise InvalidRequest(
            f"{address} has an account and keeps its password; `rag-worker reset-password` sets one"
        )
    try:
        with session.begin_nested():
            session.add(tenant)
            session.flush()
    except IntegrityError:
        raise InvalidRequest(f"there is a tenant {tenant.name!r} already") from None
    has_current = session.scalar(
        select(TenantAccountJoin.id)
        .where(TenantAccountJoin.account_id == account.id, TenantAccountJoin.current)
        .limit(1)
    )
    session.add(
        TenantAccountJoin(
            tenant_id=tenant.id,
            account_id=account.id,
            role=Role.OWNER,
            current=has_current is None,
        )
    )
    session.flush()
    shown = made if password is None else None
    return NewTenant(tenant.id, account.id, tenant.name, address, shown)


def reset_password(session: Session, email: object, password: str) -> UUID:
    """Give an account another password, in the caller's transaction; returns its id.

    Raises:
        InvalidRequest: no address, or no password that can be taken.
        NotFound: nobody has this address.
    """
    hashed = _hashed(password)
    account = _required(session, mail_address(email))
    account.password_hash = hashed
    return account.id


def reset_email(session: Session, email: object, new_email: object) -> UUID:
    """Give an account another address, in the caller's transaction; returns its id.

    Raises:
        InvalidRequest: no address, or somebody else has the new one.
        NotFound: nobody has the old one.
    """
    account, address = _required(session, mail_address(email)), mail_address(new_email)
    other = _find(session, address)
    if other is not None and other.id != account.id:
        raise InvalidRequest(f"another account has {address}")
    try:
        with session.begin_nested():
            account.email = address
            session.flush()
    except IntegrityError:
        raise InvalidRequest(f"another account has {address}") from None
    return account.id


def password_fits(password_hash: str | None, password: str) -> bool:
    """Whether a password is the one of an account."""
    from werkzeug.security import check_password_hash

    return password_hash is not None and check_password_hash(password_hash, password)


def made_password() -> str:
    """A random password that the rules take."""
    while True:
        made = "".join(secrets.choice(_ALPHABET) for _ in range(_MADE_CHARACTERS))
        if _is_mixed(made):
            return made


def _hashed(password: str) -> str:
    # Here, not above: only who sets one pays for it.
    from werkzeug.security import generate_password_hash

    if not _MIN_CHARACTERS <= len(password) <= _MAX_CHARACTERS or not _is_mixed(password):
        raise InvalidRequest(
            f"a password has {_MIN_CHARACTERS} to {_MAX_CHARACTERS} characters, "
            "at least one letter and one digit among them"
        )
    # Salted scrypt, as OWASP's cheat sheet on password storage has it.
    return generate_password_hash(password)


def _is_mixed(password: str) -> bool:
    return any(one.isalpha() for one in password) and any(one.isdigit() for one in password)


def _named(name: str) -> str:
    if not name.strip() or len(name) > _MAX_NAME or not name.isprintable():
        raise InvalidRequest(
            f"a tenant's name has 1 to {_MAX_NAME} characters, all of them printable"
        )
    return name.strip()


def _find(session: Session, address: str) -> Account | None:
    return session.scalars(
        select(Account).where(func.lower(Account.email) == address.lower())
    ).one_or_none()


def _required(session: Session, address: str) -> Account:
    account = _find(session, address)
    if account is None:
        raise NotFound(f"nobody has the address {address}")
    return account
