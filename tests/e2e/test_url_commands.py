"""URLs, their progress and the verdict on them, by the commands a user types."""

import threading

import pytest

from tests.fixtures.commands import rag_worker
from tests.fixtures.waiting import eventually
from tests.fixtures.web_server import WebServer
from tests.fixtures.worker_process import StartWorker


@pytest.fixture(autouse=True)
def _intranet(web: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FETCH_ALLOWED_NETWORKS", "127.0.0.1/32")
    monkeypatch.setenv("FETCH_ALLOWED_PORTS", str(web.port))


def test_a_url_is_indexed_explained_watched_and_synced(
    web: WebServer, start_worker: StartWorker
) -> None:
    url = web.page("/guide", b"The oven is hot.", ETag='"1"')
    answer, gate = web.pages["/guide"], threading.Event()
    web.pages["/guide"] = lambda request: (gate.wait(300), answer(request))[1]

    made = rag_worker("index", "--url", url, "--no-wait", "--json")
    assert made.code == 0, made.err
    (document_id,) = (one["document_id"] for one in made.json()["submitted"])
    assert rag_worker("why", document_id, "--json").json()["cause"] == "no_worker"
    assert rag_worker("why", url).out.startswith(f"{url}: starved (no_worker): ")

    start_worker("threads", 2)
    eventually(lambda: bool(web.requests))
    running = rag_worker("why", document_id, "--json").json()
    assert (running["kind"], running["stage"]) == ("running", "waiting")
    assert "fetches its URL" in running["summary"]
    gate.set()
    watched = rag_worker("status", "--watch", "--until-rest")
    assert (watched.code, watched.err) == (0, "")
    assert watched.out.splitlines()[-1] == "1 completed"
    assert rag_worker("why", document_id, "--json").json()["kind"] == "completed"

    web.page("/guide", b"The fridge is cold.")
    synced = rag_worker("documents", "sync", "--dataset", "default")
    assert synced.out == "1 will be fetched\n"
    # What is under way is not begun a second time.
    assert rag_worker("status", "--watch", "--until-rest").code == 0
    again = rag_worker("index", "--url", url, "--timeout", "300")
    assert again.out.startswith("1 indexed, 0 unchanged, 0 submitted, 0 failed"), again
    assert "fridge" in rag_worker("search", "What is cold?").out

    web.page("/guide", status=404)
    gone = rag_worker("index", "--url", url, "--timeout", "300")
    assert gone.code == 1
    assert "404" in gone.out
    assert "fridge" in rag_worker("search", "What is cold?").out


def test_what_cannot_be_is_said_in_one_line(app: object) -> None:
    assert "http://" in rag_worker("index", "--url", "ftp://a/b").failed_in_one_line(4)
    assert rag_worker("index").code == 2
    assert rag_worker("status", "--until-rest").code == 2
    gone = rag_worker("why", "00000000-0000-0000-0000-000000000001", "--json")
    assert (gone.code, gone.json()["kind"]) == (0, "gone")
    assert "no dataset" in rag_worker("why", "no such name").failed_in_one_line(4)
