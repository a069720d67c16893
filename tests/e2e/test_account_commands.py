"""Tenants and accounts by the commands an operator types; commands of other packages."""

import os
import subprocess
from pathlib import Path

from alembic.script import ScriptDirectory
from flask import Flask
from sqlalchemy import select
from sqlalchemy.orm import Session

from shared.models import Account, db
from shared.submitting.accounts import password_fits
from tests.fixtures.commands import RAG_WORKER, Ran, rag_worker

ROOT = Path(__file__).parents[2]


def password_hash(email: str) -> str | None:
    with Session(db.engine) as session:
        return session.scalars(select(Account.password_hash).where(Account.email == email)).one()


def test_a_tenant_is_made_and_its_owner_gets_another_password_and_address(app: Flask) -> None:
    made = rag_worker("create-tenant", "--email", "ada@example.com", "--name", "Tides", "--json")
    assert made.code == 0, made.err
    assert password_fits(password_hash("ada@example.com"), made.json()["password"])

    again = rag_worker("create-tenant", "--email", "ada@example.com", "--name", "Tides")
    assert again.failed_in_one_line(4) == "rag-worker: there is a tenant 'Tides' already"

    reset = subprocess.run(
        [RAG_WORKER, "reset-password", "--email", "ada@example.com", "--password-stdin"],
        input="battery staple 2\n",
        capture_output=True,
        text=True,
        check=False,
        env=dict(os.environ),
    )
    assert reset.returncode == 0, reset.stderr
    assert password_fits(password_hash("ada@example.com"), "battery staple 2")
    assert "battery" not in reset.stdout + reset.stderr

    moved = rag_worker("reset-email", "--email", "ada@example.com", "--new-email", "a@b.example")
    assert moved.code == 0, moved.err
    assert password_fits(password_hash("a@b.example"), "battery staple 2")
    unknown = rag_worker("reset-email", "--email", "ada@example.com", "--new-email", "a@c.example")
    assert "nobody has the address ada@example.com" in unknown.failed_in_one_line(4)


def test_the_tables_are_brought_up_by_a_command_of_its_own(app: Flask) -> None:
    newest = ScriptDirectory(str(ROOT / "shared" / "migrations")).get_current_head()
    for command in (("upgrade-db",), ("db", "upgrade")):
        assert rag_worker(*command) == Ran(0, f"the tables are at revision {newest}\n", "")


def test_a_shell_completes_commands_and_options() -> None:
    assert "_rag_worker_completion" in rag_worker("completion", "bash").out

    asked = {"_RAG_WORKER_COMPLETE": "bash_complete", "COMP_CWORD": "2"}
    found = rag_worker(**asked, COMP_WORDS="rag-worker datasets re").out.split()

    assert set(found) >= {"plain,reindex", "plain,remove-index"}


def test_another_package_brings_commands_and_breaks_none_of_ours(tmp_path: Path) -> None:
    info = tmp_path / "tides-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tides\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[rag_worker.commands]\n"
        "tide = tides_plugin:tide\n"
        "config = tides_plugin:tide\n"
        "broken = tides_missing:gone\n"
        "odd = tides_plugin:number\n"
    )
    (tmp_path / "tides_plugin.py").write_text(
        "import click\nnumber = 7\n@click.command()\ndef tide():\n    click.echo('it ebbs')\n"
    )
    path = {"PYTHONPATH": str(tmp_path)}

    assert rag_worker("tide", **path).out == "it ebbs\n"
    assert "settings" in rag_worker("config", "--help", **path).out
    helped = rag_worker("--help", **path)
    assert "Commands of other packages" in helped.out
    assert "tide" in helped.out
    assert "tides" in helped.out
    broken = rag_worker("broken", **path)
    assert broken.code == 1
    assert "cannot be loaded: No module named 'tides_missing'" in broken.err
    odd = rag_worker("odd", **path)
    assert (odd.code, "is no click command" in odd.err) == (1, True)
