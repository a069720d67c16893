"""Sealing anew goes on where it was cut short, and meanwhile every secret can be read."""

import pytest
from pydantic import SecretStr
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from shared.models import TraceConfig, db
from shared.submitting import resealing
from shared.submitting.resealing import Resealed, reseal
from shared.submitting.sealing import SealingKeys
from shared.submitting.trace_configs import target_of
from tests.fixtures.traced import KEYS, LANGFUSE, Traced

NEW = SealingKeys(SecretStr("new"), (KEYS.current,))
ROWS = 5


class Cut(Exception):
    """The process died here."""


class Dying(SealingKeys):
    """Keys whose owner dies at the fourth secret."""

    asked = 0

    def renewed(self, sealed: str) -> str | None:
        type(self).asked += 1
        if self.asked == 4:
            raise Cut
        return super().renewed(sealed)


def of_configs(keys: SealingKeys) -> Resealed:
    found = {one.table: one for one in reseal(sessionmaker(db.engine), keys)}
    return found["trace_configs"]


def test_a_run_that_dies_leaves_whole_batches_and_the_next_does_the_rest(
    traced: Traced, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resealing, "_BATCH", 2)
    for number in range(ROWS):
        traced.configure(app_id=f"app-{number}")

    with pytest.raises(Cut):
        of_configs(Dying(NEW.current, NEW.previous))

    def readable(keys: SealingKeys) -> int:
        with Session(db.engine) as session:
            rows = list(session.scalars(select(TraceConfig)))
        opened = 0
        for row in rows:
            try:
                opened += target_of(row, keys).secrets == LANGFUSE
            except Exception:  # noqa: BLE001 - any error is "not readable"
                continue
        return opened

    only_new = SealingKeys(NEW.current)
    assert (readable(NEW), readable(only_new)) == (ROWS, 2)
    rest = of_configs(NEW)
    assert (rest.renewed, rest.current, rest.unreadable) == (3, 2, 0)
    assert readable(only_new) == ROWS
    assert of_configs(only_new).renewed == 0
