"""Mails as texts: every kind in every language, overrides, and hostile fields."""

import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
from markupsafe import escape

from shared.errors import ConfigurationError, Permanent
from shared.submitting.mail_kinds import KINDS, LANGUAGES, kind_of
from tests.unit.mail.samples import sample_composer
from worker.services.mail.composing import BUILT_IN
from worker.services.mail.waiting_mail import WaitingMail

WORDS = {
    language: tomllib.loads((BUILT_IN / "words" / f"{language}.toml").read_text("utf-8"))
    for language in LANGUAGES
}


def leaves(words: dict[str, object], path: str = "") -> Iterator[tuple[str, str]]:
    for name, value in words.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{path}{name}.")
        elif isinstance(value, list):
            yield from ((f"{path}{name}[{index}]", one) for index, one in enumerate(value))
        else:
            yield f"{path}{name}", str(value)


def test_every_language_says_everything_and_in_its_own_words() -> None:
    english = dict(leaves(WORDS["en-US"]))
    assert {kind.name for kind in KINDS} - {"inner"} == set(WORDS["en-US"]) - {"common"}
    for language in LANGUAGES[1:]:
        words = dict(leaves(WORDS[language]))
        assert words.keys() == english.keys(), language
        assert [name for name, value in words.items() if value == english[name]] == [], language


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_kind_is_composed_with_all_its_fields(language: str) -> None:
    composer = sample_composer()
    for kind in KINDS:
        content = composer.render(kind, language, kind.samples)
        for part in (content.subject, content.html, content.text):
            assert part.strip()
            assert not [mark for mark in ("{{", "{%", "}}", "None", "Undefined") if mark in part]
        for field in kind.fields:
            values = field.sample if isinstance(field.sample, list) else [field.sample]
            for value in values:
                if isinstance(value, str) and field.name not in {"phase", "body"}:
                    assert value in content.text, (kind.name, field.name)
        if kind.link is not None:
            assert "https://app.example.com/" in content.text
        assert "Tide &amp; Sons" in content.html
        assert "Tide & Sons" in content.text


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("reset_password_unknown_account", {"is_allow_register": False}),
        ("change_mail", {"code": "1", "phase": "new_email"}),
    ],
)
def test_what_depends_on_a_field_reads_otherwise(kind: str, fields: dict[str, object]) -> None:
    composer = sample_composer()
    for language in LANGUAGES:
        found = kind_of(kind)
        usual = composer.render(found, language, found.samples)
        other = composer.render(found, language, found.samples | fields)
        assert usual.text != other.text
        assert ("/signup" in other.text) is False


def test_hostile_fields_are_text_and_templates_are_in_a_sandbox() -> None:
    composer = sample_composer()
    invite, inner = kind_of("invite_member"), kind_of("inner")
    hostile = "<script>alert(1)</script>{{ 7 * 7 }}"

    html = composer.render(invite, "en-US", invite.samples | {"inviter_name": hostile}).html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;{{ 7 * 7 }}" in html
    assert "<script" not in html
    link = composer.render(invite, "en-US", invite.samples | {"token": '"><img src=x>&a=b'}).html
    assert "token=%22%3E%3Cimg%20src%3Dx%3E%26a%3Db" in link

    def of(body: str, **substitutions: object) -> dict[str, object]:
        return {"subject": "S", "body": body, "substitutions": substitutions}

    content = composer.render(inner, "en-US", of("<b>{{ name }}</b><br>bye", name="<i>&"))
    assert "<b>&lt;i&gt;&amp;</b>" in content.html
    assert "<i>&\nbye" in content.text.replace("\n\n", "\n")
    plain = composer.render(inner, "en-US", of("One\n\nTwo {{ x }}", x="<b>"))
    assert "<p>Two &lt;b&gt;</p>" in plain.html
    for body in ("{{ ''.__class__.__mro__ }}", "{{ code }}", "{% if %}", "{{ 1 // 0 }}"):
        with pytest.raises(Permanent, match="the template of inner") as failed:
            composer.render(inner, "en-US", of(body))
        assert body not in str(failed.value)


def test_an_operators_folder_goes_before_the_built_in_one(tmp_path: Path) -> None:
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / "es-ES.toml").write_text('[test]\nsubject = "Prueba {{ brand }}"\n')
    (tmp_path / "invite_member.html").write_text("<p>{{ words.heading }} {{ inviter_name }}</p>")
    (tmp_path / "test.es-ES.html").write_text("{% extends 'base.html' %}")
    composer = sample_composer(templates=tmp_path)
    test, invite = kind_of("test"), kind_of("invite_member")

    assert composer.render(test, "es-ES", {}).subject == "Prueba Tide & Sons"
    assert composer.render(test, "en-US", {}).subject == "A test message from Tide & Sons"
    assert "El correo funciona" not in composer.render(test, "es-ES", {}).html
    html = composer.render(invite, "en-US", invite.samples).html
    assert html == "<p>You are invited to Tidal Research Ada Lovelace</p>"
    (tmp_path / "test.html").write_text("{{ nothing }}")
    with pytest.raises(Permanent, match="'nothing' is undefined"):
        sample_composer(templates=tmp_path).render(test, "en-US", {})
    (tmp_path / "words" / "es-ES.toml").write_text("[test")
    with pytest.raises(ConfigurationError, match=r"es-ES\.toml"):
        sample_composer(templates=tmp_path)


def test_what_is_rendered_once_is_each_looks_own_and_what_names_a_field_each_mails() -> None:
    looks = [sample_composer(brand=brand) for brand in ("Ebb & Flow", "Tide & Sons")]
    transfer = kind_of("owner_transfer_confirm")
    for _ in range(2):
        for composer, brand in zip(looks, ("Ebb & Flow", "Tide & Sons"), strict=True):
            for workspace in ("Reeds", "<b>Herons"):
                mail = composer.render(transfer, "en-US", {"workspace": workspace, "code": "1"})
                assert f"{escape(brand)} sent this message" in mail.html
                assert f"{brand} sent this message" in mail.text
                assert mail.subject == f"Confirm that {workspace} gets a new owner"
                assert str(escape(workspace)) in mail.html


def test_every_copy_of_a_mail_is_the_same_and_a_sender_must_be_an_address() -> None:
    mail = WaitingMail(
        delivery_id=UUID(int=7),
        kind=kind_of("test"),
        recipient="ada@example.com",
        language="zh-Hans",
        fields={},
        accepted_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    )
    first, second = (sample_composer().compose(mail).as_bytes() for _ in range(2))
    assert first == second
    assert b"From: Tide & Sons <mail@example.com>" in first
    with pytest.raises(ConfigurationError, match="MAIL_DEFAULT_SEND_FROM"):
        sample_composer(sender="nobody")
