"""Tenants, their owners, and what an operator mends by hand."""

import pytest
from flask import Flask
from sqlalchemy import select
from sqlalchemy.orm import Session

from shared.errors import InvalidRequest, NotFound
from shared.models import Account, Role, Tenant, TenantAccountJoin, db
from shared.submitting.accounts import (
    create_tenant,
    password_fits,
    reset_email,
    reset_password,
)


@pytest.fixture
def session(app: Flask) -> Session:
    with Session(db.engine) as session:
        yield session


def only(session: Session, email: str) -> Account:
    return session.scalars(select(Account).where(Account.email == email)).one()


def test_a_tenant_comes_with_an_owner_who_can_come_in(session: Session) -> None:
    made = create_tenant(session, "Ada@Example.com", "Tides", "de-DE")
    session.commit()

    account = only(session, made.email)
    assert (made.email, account.language, account.status) == ("Ada@example.com", "de-DE", "active")
    assert made.password is not None
    assert password_fits(account.password_hash, made.password)
    assert not password_fits(account.password_hash, made.password + "x")
    assert made.password not in str(account.password_hash)
    joined = session.scalars(select(TenantAccountJoin)).one()
    assert (joined.tenant_id, joined.account_id) == (made.tenant_id, account.id)
    assert (joined.role, joined.current) == (Role.OWNER, True)


def test_who_has_an_account_becomes_the_owner_and_keeps_the_password(session: Session) -> None:
    first = create_tenant(session, "ada@example.com", password="correct horse 1")
    second = create_tenant(session, "ADA@example.com", "Dunes")

    assert first.name == "ada's workspace"
    assert (first.password, second.password) == (None, None)
    assert second.account_id == first.account_id
    assert password_fits(only(session, "ada@example.com").password_hash, "correct horse 1")
    current = {one.tenant_id: one.current for one in session.scalars(select(TenantAccountJoin))}
    assert current == {first.tenant_id: True, second.tenant_id: False}
    with pytest.raises(InvalidRequest, match="reset-password"):
        create_tenant(session, "ada@example.com", "Reefs", password="another 1234")


@pytest.mark.parametrize(
    ("email", "fields", "match"),
    [
        ("nobody", {}, "not a mail address"),
        (None, {}, "is text, not NoneType"),
        ("a@example.com", {"name": "Taken"}, "there is a tenant 'Taken' already"),
        ("a@example.com", {"name": " "}, "1 to 255 characters"),
        ("a@example.com", {"name": "a\nb"}, "printable"),
        ("a@example.com", {"name": "x" * 256}, "1 to 255 characters"),
        ("a@example.com", {"language": "xx"}, "no such language: 'xx'"),
        ("a@example.com", {"password": "short1"}, "8 to 256 characters"),
        ("a@example.com", {"password": "nodigitsatall"}, "one digit"),
    ],
)
def test_what_cannot_be_made_says_why_and_leaves_nothing(
    session: Session, email: object, fields: dict[str, str], match: str
) -> None:
    session.add(Tenant(name="Taken"))
    session.commit()

    with pytest.raises(InvalidRequest, match=match):
        create_tenant(session, email, **fields)
    session.rollback()

    assert session.scalars(select(Tenant.name)).all() == ["Taken"]
    assert session.scalars(select(Account)).all() == []


def test_a_password_and_an_address_are_replaced(session: Session) -> None:
    made = create_tenant(session, "ada@example.com", password="correct horse 1")

    assert reset_password(session, "ada@example.com", "battery staple 2") == made.account_id
    assert reset_email(session, "ada@example.com", "Ada@Byron.example") == made.account_id
    # The case alone may change as well.
    assert reset_email(session, "ada@byron.example", "ada@byron.example") == made.account_id
    session.commit()

    hashed = only(session, "ada@byron.example").password_hash
    assert password_fits(hashed, "battery staple 2")
    assert not password_fits(hashed, "correct horse 1")


def test_nobody_is_mistaken_for_somebody_else(session: Session) -> None:
    create_tenant(session, "ada@example.com", "one")
    create_tenant(session, "bob@example.com", "two")
    session.commit()

    with pytest.raises(NotFound, match=r"nobody has the address eve@example.com"):
        reset_password(session, "eve@example.com", "battery staple 2")
    with pytest.raises(InvalidRequest, match=r"another account has BOB@example.com"):
        reset_email(session, "ada@example.com", "BOB@example.com")
    with pytest.raises(InvalidRequest, match="letter and one digit"):
        reset_password(session, "ada@example.com", "12345678")
    session.commit()

    assert only(session, "ada@example.com").password_hash is not None
