"""The query that an autoscaler asks, on a real outbox."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from flask import Flask
from sqlalchemy import text
from sqlalchemy.orm import Session

from shared.models import db
from tests.fixtures.messages import Messages

SCALING = Path(__file__).parents[2] / "deploy" / "kubernetes" / "scaling.yaml"
LONG_AGO = "available_at = now() - interval '2 minutes'"


def queries() -> dict[str, str]:
    manifests: list[dict[str, Any]] = list(yaml.safe_load_all(SCALING.read_text()))
    return {
        one["metadata"]["name"]: one["spec"]["triggers"][0]["metadata"]["query"]
        for one in manifests
        if one["kind"] == "ScaledObject"
    }


@pytest.mark.parametrize(
    ("change", "dataset_seconds"),
    [
        (LONG_AGO, 120),
        (f"{LONG_AGO}, published_at = now()", 120),
        ("available_at = now() + interval '2 minutes'", 0),
        (f"{LONG_AGO}, lease_expires_at = now() + interval '1 minute'", 0),
    ],
    ids=["waits", "published", "is a retry of later", "is being worked on"],
)
def test_the_age_is_that_of_the_oldest_message_nobody_works_on(
    app: Flask, change: str, dataset_seconds: float
) -> None:
    Messages(app).write("probe.done", "one")
    with Session(db.engine) as session, session.begin():
        session.execute(text("UPDATE outbox SET queue = 'dataset'"))
        session.execute(text(f"UPDATE outbox SET {change}"))

    with Session(db.engine) as session:
        ages = {name: session.scalar(text(query)) for name, query in queries().items()}

    assert ages["worker-io"] == 0
    assert dataset_seconds <= ages["worker-dataset"] < dataset_seconds + 30
