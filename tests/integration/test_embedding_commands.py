"""The embedder of a new dataset, and the cache, from the command line."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from flask import Flask
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from shared.models import Dataset
from worker.cli import main
from worker.wiring import embedding_cache


@pytest.fixture
def run(app: Flask, tmp_path: Path) -> Any:
    (tmp_path / "lamp.txt").write_text("The lamp turns.")

    def command(*arguments: str) -> Result:
        return CliRunner().invoke(main, arguments)

    return command


def index(run: Any, *options: str) -> Result:
    return run("index", "lamp.txt", "--dataset", "new", "--no-wait", *options)


def test_a_new_dataset_takes_the_embedder_it_is_given(run: Any, session: Session) -> None:
    done = index(run, "--embedding-provider", "openai_compatible", "--embedding-model", "bge-m3")

    assert done.exit_code == 0, done.output
    dataset = session.scalars(select(Dataset).where(Dataset.name == "new")).one()
    assert (dataset.embedding_provider, dataset.embedding_model) == ("openai_compatible", "bge-m3")


def test_without_options_it_takes_the_settings_and_another_model_later_is_refused(
    run: Any, session: Session
) -> None:
    assert index(run).exit_code == 0
    dataset = session.scalars(select(Dataset).where(Dataset.name == "new")).one()
    assert (dataset.embedding_provider, dataset.embedding_model) == ("wordllama", "l2_supercat_256")

    other = ("--embedding-provider", "openai_compatible", "--embedding-model", "bge-m3")
    refused = index(run, *other)

    assert refused.exit_code == 4
    assert "embedded with wordllama l2_supercat_256" in refused.output


def test_a_provider_without_its_model_is_refused(run: Any) -> None:
    refused = index(run, "--embedding-provider", "openai_compatible")

    assert refused.exit_code == 4
    assert "name its model" in refused.output


def test_the_cache_is_shown_and_purged(run: Any, session: Session) -> None:
    assert "nothing" in run("embedding-cache", "show").output
    vector = np.ones(3, np.float32)
    embedding_cache().store("m", {b"old": vector, b"new": vector})
    session.execute(text("UPDATE embeddings SET used_on = CURRENT_DATE - 91 WHERE hash = 'old'"))
    session.commit()

    shown = json.loads(run("embedding-cache", "show", "--json").output)
    assert [(one["model"], one["vectors"]) for one in shown["models"]] == [("m", 2)]
    assert json.loads(run("embedding-cache", "purge", "--json").stdout) == {"purged": 1}
    assert run("embedding-cache", "purge", "--unused-days", "0").output.startswith("0 vectors")
    assert list(embedding_cache().fetch("m", [b"old", b"new"])) == [b"new"]
