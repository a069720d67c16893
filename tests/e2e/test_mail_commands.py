"""``rag-worker mail`` as an operator types it."""

from pathlib import Path

from tests.fixtures.commands import rag_worker
from tests.fixtures.mail_servers import StartMailServer
from tests.fixtures.mails import MailsTo
from tests.fixtures.messages import Messages


def test_a_mail_is_tested_listed_shown_and_retried(
    start_mail_server: StartMailServer, mails_to: MailsTo
) -> None:
    server = start_mail_server()
    mails = mails_to(server)
    messages = Messages(mails.app)
    server.box.faults.append("rcpt:550 no such user\x1b[31m")

    refused = rag_worker("mail", "test", "--to", "ada@example.com", "--json")
    assert (refused.code, refused.json()["status"]) == (1, "failed")
    assert refused.json()["error"].startswith("550 no such user")
    fine = rag_worker("mail", "test", "--to", "ada@example.com", "--lang", "ja-JP")
    assert (fine.code, "status: sent" in fine.out) == (0, True)
    assert [one["Subject"] for one in server.box.messages()] == ["rag-worker からのテストメール"]
    rag_worker("mail", "test", "--to", "ada").failed_in_one_line(4)

    listed = rag_worker("mail", "list", "--status", "failed", "--json").json()["mails"]
    assert [one["id"] for one in listed] == [refused.json()["id"]]
    assert "\x1b" not in rag_worker("mail", "list").out
    waiting = mails.accept("reset_password", code="482913")
    shown = rag_worker("mail", "show", str(waiting)[:13])
    assert "482913" not in shown.out
    assert "'code': '********'" in shown.out
    rag_worker("mail", "show", "0" * 8).failed_in_one_line(4)

    assert rag_worker("mail", "retry").code == 2
    again = rag_worker("mail", "retry", listed[0]["id"], waiting)
    assert again.out == "1 retried, 1 left alone\n"
    row = mails.row(refused_id := listed[0]["id"])
    assert (row.status, row.attempts, row.error) == ("queued", 0, None)
    assert row.message_id is not None
    announced = messages.row(row.message_id)
    assert announced is not None
    assert (announced.args, announced.kwargs) == ([], {"delivery_id": refused_id})
    assert rag_worker("mail", "retry", "--all", "--json").json() == {
        "retried": [],
        "left_alone": [],
    }


def test_a_preview_is_written_in_the_language_asked_for(
    environment: dict[str, str], tmp_path: Path
) -> None:
    own = tmp_path / "own" / "words"
    own.mkdir(parents=True)
    (own / "de-DE.toml").write_text('[reset_password]\nheading = "Neues {{ brand }}-Kennwort"\n')
    page = tmp_path / "page.html"

    built_in = rag_worker("mail", "preview", "reset-password", "--lang", "fr-FR")
    assert '<html lang="fr-FR">' in built_in.out
    assert "Choisissez un nouveau mot de passe" in built_in.out
    overridden = rag_worker(
        *("mail", "preview", "reset_password", "--lang", "de-DE", "--output", page),
        MAIL_TEMPLATES_DIR=str(own.parent),
        MAIL_BRAND_NAME="Tide & Co",
        MAIL_BRAND_COLOR="#0a7d4b",
    )
    assert overridden.out == f"{page}: Neues Passwort für Tide & Co wählen\n"
    html = page.read_text()
    assert "<h1>Neues Tide &amp; Co-Kennwort</h1>" in html
    assert "#0a7d4b" in html
    assert "Sie haben ein neues Passwort angefordert" in html, "the rest is built in"
    assert "{{" not in rag_worker("mail", "preview", "inner", "--text").out
    rag_worker("mail", "preview", "nothing").failed_in_one_line(4)
    rag_worker("mail", "test", "--to", "ada@example.com").failed_in_one_line(3)
    rag_worker("mail", "list", MAIL_TYPE="smtp").failed_in_one_line(3)
