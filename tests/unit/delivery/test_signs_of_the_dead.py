"""Signs of life of workers that were killed are cleared, and of no others."""

import json
import os
import time
from dataclasses import asdict
from pathlib import Path

import psutil
import pytest

from worker.delivery.pulse import Pulse, clear_signs_of_the_dead
from worker.delivery.signs import Sign, read_signs

LONG_AGO_SECONDS = 4000
HERE = (os.getpid(), psutil.Process().create_time())
GONE = (os.getpid(), HERE[1] - 1000)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "signs"
    made.mkdir(mode=0o700)
    return made


def signed(folder: Path, name: str, process: tuple[int, float]) -> None:
    Pulse(folder, Sign(name, *process, ("mail",)), lambda: ["mail"], lambda: False).beat()


def age(folder: Path, *names: str) -> None:
    then = time.time() - LONG_AGO_SECONDS
    for name in names:
        os.utime(folder / name, (then, then))


def test_only_those_go_whose_process_is_gone_and_whose_file_is_old(folder: Path) -> None:
    signed(folder, "killed@host", GONE)
    signed(folder, "killed just now@host", GONE)
    signed(folder, "whose clock jumped@host", HERE)
    foreign = ("notes.json", "other.json", "other.txt")
    for name in foreign:
        (folder / name).write_text(json.dumps({"name": "somebody's"}))
    (folder / "killed@host.4711.unfinished").write_text("{")
    (folder / "at work@host.4712.unfinished").write_text("{")
    before = {path.name for path in folder.iterdir()}
    old = ("killed@host.json", "killed@host.4711.unfinished")
    age(folder, *old, "whose%20clock%20jumped@host.json", *foreign)

    assert clear_signs_of_the_dead(folder) == len(old)

    assert {path.name for path in folder.iterdir()} == before - set(old)
    assert [sign.name for sign in read_signs(folder)] == [
        "killed just now@host",
        "whose clock jumped@host",
    ]
    assert clear_signs_of_the_dead(folder) == 0


def test_a_folder_that_others_can_write_is_left_alone(folder: Path) -> None:
    Path(folder / "killed@host.json").write_text(json.dumps(asdict(Sign("a", *GONE, ()))))
    age(folder, "killed@host.json")
    folder.chmod(0o777)

    assert clear_signs_of_the_dead(folder) == 0
    assert len(list(folder.iterdir())) == 1


def test_a_worker_that_is_the_first_on_its_host_finds_nothing(tmp_path: Path) -> None:
    assert clear_signs_of_the_dead(tmp_path / "new") == 0
