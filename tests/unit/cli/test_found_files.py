"""What paths on the command line mean."""

import os
from pathlib import Path

from worker.cli.found_files import found_files


def test_a_folder_is_walked_in_order_without_what_is_hidden(tmp_path: Path) -> None:
    (tmp_path / "b" / ".git").mkdir(parents=True)
    for name in ("c.txt", "a.txt", ".env", "b/d.txt", "b/.git/config"):
        (tmp_path / name).write_text("x")

    found = list(found_files([tmp_path]))

    assert [one.name for one in found] == ["a.txt", "c.txt", "b/d.txt"]
    assert [one.problem for one in found] == [None] * 3


def test_a_hidden_file_that_is_named_is_meant(tmp_path: Path) -> None:
    (tmp_path / ".env.md").write_text("x")

    assert [one.name for one in found_files([tmp_path / ".env.md"])] == [".env.md"]


def test_a_file_named_twice_in_different_ways_is_one(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "link").symlink_to("sub")
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "sub" / "b.txt").write_text("x")

    paths = [Path("a.txt"), tmp_path, Path("sub/../a.txt"), Path("link/b.txt"), Path("sub/b.txt")]

    assert [one.name for one in found_files(paths)] == ["a.txt", "sub/b.txt"]


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")

    found = {one.name: one.problem for one in found_files([tmp_path])}

    assert found == {
        "dangling": "a link to nothing",
        "loop": "a link to nothing",
        "pipe": "not a regular file",
    }
