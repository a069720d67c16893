"""Forms and rules as a user types them, indexed by a real worker."""

import json
from pathlib import Path

from tests.fixtures.commands import rag_worker
from tests.fixtures.worker_process import StartWorker

HIERARCHICAL = {
    "mode": "hierarchical",
    "rules": {
        "parent_mode": "paragraph",
        "segmentation": {"separator": "\\n\\n", "max_tokens": 500},
        "subchunk_segmentation": {"separator": "\\n", "max_tokens": 100},
    },
}
CUSTOM = {"mode": "custom", "rules": {"segmentation": {"separator": "##", "max_tokens": 100}}}


def write(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_each_form_is_indexed_and_found(start_worker: StartWorker, tmp_path: Path) -> None:
    start_worker("prefork", 2)
    rule = write(tmp_path / "rule.json", HIERARCHICAL)
    log = write(
        tmp_path / "log.txt", "The lamp is lit.\nIt turns.\n\nThe horn is tested.\nIt is loud."
    )
    faq = write(tmp_path / "faq.csv", "QUESTION,Answer\nWho keeps the lamp?,Ada does.\n")

    parents = ("--dataset", "parents")
    indexed = rag_worker("index", log, *parents, "--form", "hierarchical_model", "--rule", rule)
    assert indexed.code == 0, indexed
    found = rag_worker("search", "is it loud?", *parents, "--method", "vector", "--json").json()
    assert found["passages"][0]["content"] == "The horn is tested.\nIt is loud."
    assert found["passages"][0]["children"][0]["content"] == "It is loud."

    pairs = ("--dataset", "pairs")
    assert rag_worker("index", faq, *pairs, "--form", "qa_model").code == 0
    found = rag_worker("search", "who keeps the lamp?", *pairs, "--json").json()
    assert found["passages"][0]["answer"] == "Ada does."
    failed = rag_worker("index", log, *pairs, "--json")
    assert failed.code == 1
    assert "upload a CSV" in failed.json()["failed"][0]["reason"]


def test_a_rule_is_set_shown_and_refused(environment: dict[str, str], tmp_path: Path) -> None:
    text = write(tmp_path / "a.txt", "one##two")
    rule = write(tmp_path / "rule.json", CUSTOM)
    submitted = rag_worker("index", text, "--no-wait", "--json").json()["submitted"]
    assert rag_worker("datasets", "rule", "set", rule).code == 0
    shown = rag_worker("datasets", "rule", "show", "--json").json()
    assert shown["mode"] == "custom"
    assert shown["rules"]["segmentation"] == {
        "separator": "##",
        "max_tokens": 100,
        "chunk_overlap": 0,
    }
    shown = rag_worker(
        "datasets", "rule", "show", "--document", submitted[0]["document_id"], "--json"
    ).json()
    assert (shown["next"]["mode"], shown["active"]) == ("custom", None)

    wrong = write(tmp_path / "wrong.json", {"mode": "custom", "rules": {"segmentation": {}}})
    line = rag_worker("index", text, "--dataset", "new", "--rule", wrong).failed_in_one_line(4)
    assert "rules.segmentation.max_tokens Field required" in line
    line = rag_worker("datasets", "rule", "show", "--dataset", "new").failed_in_one_line(4)
    assert "has no dataset 'new'" in line
    line = rag_worker("index", text, "--form", "qa_model").failed_in_one_line(4)
    assert "is of form text_model, not qa_model" in line
