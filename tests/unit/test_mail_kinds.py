"""What mails are made of: fields, languages, addresses, secrets."""

from typing import Any

import pytest
from pydantic import SecretStr

from shared.contract import MAIL_TASKS
from shared.errors import ConfigurationError, InvalidRequest
from shared.submitting.mail_address import mail_address
from shared.submitting.mail_kinds import KINDS, kind_of, language_of
from shared.submitting.sealing import seal, unseal


def test_each_kind_has_its_task_in_the_contract() -> None:
    assert sorted(kind.task_name for kind in KINDS) == sorted(task.name for task in MAIL_TASKS)


@pytest.mark.parametrize(
    ("wanted", "language"),
    [
        ("zh-Hans", "zh-Hans"),
        ("zh-CN", "zh-Hans"),
        ("zh_CN", "zh-Hans"),
        ("zh-Hant", "en-US"),
        ("DE-de", "de-DE"),
        ("fr", "fr-FR"),
        ("ko-KR", "en-US"),
        ("", "en-US"),
        (None, "en-US"),
        ("../../etc", "en-US"),
    ],
)
def test_an_unknown_language_falls_back_to_english(wanted: Any, language: str) -> None:
    assert language_of(wanted) == language


def test_codes_and_tokens_are_kept_apart() -> None:
    public, secret = kind_of("invite_member").validated(
        {"token": "t0ken", "inviter_name": "Ada", "workspace_name": "Tides"}
    )
    assert (public, secret) == (
        {"inviter_name": "Ada", "workspace_name": "Tides"},
        {"token": "t0ken"},
    )


@pytest.mark.parametrize(
    ("kind", "fields", "reason"),
    [
        ("register", {}, "code is missing"),
        ("register", {"code": 482913}, "code must be str, not int"),
        ("register", {"code": "482913", "name": "x"}, "there is no field name"),
        ("register", {"code": " "}, "code is empty"),
        ("register", {"code": "4\r\nBcc: eve@example.com"}, "line break"),
        ("owner_transfer_new", {"workspace": "a\u2028b"}, "line break"),
        ("owner_transfer_new", {"workspace": "a" * 2000}, "too long"),
        ("change_mail", {"code": "1", "phase": "third"}, "old_email, new_email"),
        ("reset_password_unknown_account", {"is_allow_register": "yes"}, "must be bool"),
        ("document_clean_notice", {"account_name": "A", "knowledge_details": [1]}, "hold text"),
    ],
)
def test_a_wrong_field_is_refused_without_being_repeated(
    kind: str, fields: dict[str, Any], reason: str
) -> None:
    with pytest.raises(InvalidRequest, match=reason) as refused:
        kind_of(kind).validated(fields)
    assert "482913" not in str(refused.value)


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("Ada.L@EXAMPLE.com", "Ada.L@example.com"),
        ("ada+news@example.co.uk", "ada+news@example.co.uk"),
        ("grete@bücher.example.com", "grete@xn--bcher-kva.example.com"),
        (" ada@example.com ", "ada@example.com"),
    ],
)
def test_addresses_become_what_every_server_takes(given: str, address: str) -> None:
    assert mail_address(given) == address


@pytest.mark.parametrize(
    "given",
    [
        "ada",
        "ada@",
        "@example.com",
        "ada@example..com",
        "ada@example.com\r\nBcc: eve@example.com",
        "ada@example.com, eve@example.com",
        "ada@example.com\n",
        "Ada <ada@example.com>",
        "",
        None,
        17,
    ],
)
def test_what_is_no_address_is_refused(given: Any) -> None:
    with pytest.raises(InvalidRequest):
        mail_address(given)


def test_what_is_sealed_says_nothing_without_the_key() -> None:
    key = SecretStr("k1")
    sealed = seal({"code": "482913"}, key)

    assert "482913" not in sealed
    assert unseal(sealed, key) == {"code": "482913"}
    with pytest.raises(ConfigurationError, match="SECRET_KEY"):
        unseal(sealed, SecretStr("k2"))
    assert unseal(seal({"code": "1"}, SecretStr("")), key) == {"code": "1"}
