"""Summaries, titles and answers without a model, on real documents; ``pytest -s`` prints them."""

import re
import time
import tracemalloc
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path

import pytest

from worker.providers.wordllama import WordLlamaEmbedder
from worker.services.generation.extractive import answer, summarize, title
from worker.services.generation.sentences import joined

ROOT = Path(__file__).parents[3]
SAMPLES = ROOT / "worker/samples/documents"
OURS = [
    *(SAMPLES / name for name in ("safety.md", "guide.zh.md", "kitchen.txt", "安全须知.txt")),
    ROOT / "README.md",
    *(ROOT / "docs" / f"{name}.md" for name in ("delivery", "mail", "retrieval", "segments")),
]
MOST_SENTENCES, MOST_CHARACTERS = 4, 600


def readmes() -> Iterator[tuple[str, str]]:
    """Descriptions of installed packages: Markdown and reStructuredText of eleven authors."""
    wanted = {
        "celery", "flask", "redis", "ruff", "gevent", "tornado", "urllib3", "kombu", "psutil",
        "SQLAlchemy", "packaging", "numpy",
    }  # fmt: skip
    for one in distributions():
        text = str(one.metadata.get_payload() or one.metadata.get("Description") or "")
        if one.name in wanted and len(text) > 1000:
            yield one.name, text


DOCUMENTS = dict([(one.name, one.read_text(encoding="utf-8")) for one in OURS] + sorted(readmes()))


@pytest.fixture(scope="module")
def embedder() -> WordLlamaEmbedder:
    return WordLlamaEmbedder("l2_supercat_256")


def squeezed(text: str) -> str:
    return re.sub(r"[\s*>]", "", text)


def test_there_are_twenty_documents() -> None:
    assert len(DOCUMENTS) >= 20


@pytest.mark.parametrize("name", DOCUMENTS)
def test_each_sentence_of_a_summary_is_the_documents_own(
    name: str, embedder: WordLlamaEmbedder
) -> None:
    text = DOCUMENTS[name]

    found = summarize(lambda: [text], embedder, MOST_SENTENCES, MOST_CHARACTERS)
    summary = joined(found)

    print(f"\n== {name}\n{summary}\n-- {title([text[:800]], embedder)}")
    assert 1 <= len(found) <= MOST_SENTENCES
    assert len(summary) <= MOST_CHARACTERS
    whole = squeezed(text)
    for one in found:
        assert one.strip()
        assert squeezed(one) in whole
    places = [whole.index(squeezed(one)) for one in found]
    assert places == sorted(places), "in the document's order"


@pytest.mark.parametrize("text", ["", "\n\n", "```\ncode\n```", "| a | b |", "x" * 5000, "。。。"])
def test_what_holds_no_sentence_has_no_summary_and_harms_nobody(
    text: str, embedder: WordLlamaEmbedder
) -> None:
    assert summarize(lambda: [text], embedder, 3, 500) == []
    assert len(title([text], embedder)) <= 60
    assert all(one.number == 1 for one in answer("What?", [text], embedder))


def test_memory_does_not_grow_with_the_text(embedder: WordLlamaEmbedder) -> None:
    def pages() -> Iterator[str]:
        for number in range(400):
            yield " ".join(
                f"Sentence {number} of part {one} says that lamp {number * one} burns brightly."
                for one in range(20)
            )

    summarize(lambda: ["Warm the model up with one sentence."], embedder, 3, 500)
    tracemalloc.start()
    began = time.monotonic()
    summary = summarize(pages, embedder, 3, 500)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert summary
    assert peak < 8_000_000, f"{peak} bytes for 8,000 sentences"
    assert time.monotonic() - began < 60


def test_an_answer_is_sentences_with_the_passages_they_are_from(
    embedder: WordLlamaEmbedder,
) -> None:
    passages = [
        "The mess serves supper at seven. Dogs stay outside the kitchen at all times.",
        "The muster point is the flagpole in front of the Boat Shed. Gates close at nine.",
        "警报器装在船库屋顶。连续长鸣表示火灾，立即从最近的门离开。",
    ]

    found = answer("Where is the muster point?", passages, embedder)
    chinese = answer("连续长鸣表示什么？", passages, embedder, max_sentences=1)

    assert found[0].text == "The muster point is the flagpole in front of the Boat Shed."
    assert found[0].number == 2
    assert [(one.text, one.number) for one in chinese] == [
        ("连续长鸣表示火灾，立即从最近的门离开。", 3)
    ]
    assert answer("Anything?", [], embedder) == []


def test_a_table_answers_by_its_lines(embedder: WordLlamaEmbedder) -> None:
    passages = ["Boat; Departure\nKittiwake; 07:15\nPuffin; 18:40"]
    assert "18:40" in " ".join(
        one.text for one in answer("When does Puffin leave?", passages, embedder)
    )


def test_a_title_is_one_short_line(embedder: WordLlamaEmbedder) -> None:
    question = "How do I configure the worker so that a very long question still has a short title?"
    made = title([question], embedder)
    assert len(made) <= 60
    assert question.startswith(made.rstrip("…"))
