"""Statements that greenlets share: each row has one owner, and nobody waits for another's lock."""

import subprocess
import sys
from pathlib import Path

from flask import Flask
from sqlalchemy.orm import Session

from shared.models import db
from shared.submitting.mail import MailRules, send_mails

ROOT = Path(__file__).parents[2]
MAILS = 60


def run(part: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.integration.greenlet_groups", part],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr[-3000:]


def accept_mails() -> None:
    with Session(db.engine) as session, session.begin():
        people = [f"person-{number}@example.com" for number in range(MAILS)]
        send_mails(
            session, "register_existing_account", people, rules=MailRules(), account_name="Ada"
        )


def test_calls_that_come_while_one_is_under_way_share_the_next(app: Flask) -> None:
    run("calls")


def test_who_is_ended_takes_its_call_back_or_sees_it_to_its_end(app: Flask) -> None:
    run("interrupted_calls")


def test_after_a_shared_call_the_next_keeps_company_with_the_tasks_there_are(app: Flask) -> None:
    run("company")


def test_a_message_has_one_owner_who_waits_for_nobody_elses(app: Flask) -> None:
    accept_mails()
    run("messages")


def test_a_mail_is_claimed_once_and_written_by_its_owner_alone(app: Flask) -> None:
    accept_mails()
    run("leases")


def test_a_copy_lets_others_run_and_can_be_ended(app: Flask) -> None:
    run("copies")
