"""Words: what a question and a passage have in common is the same number."""

from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.services.dataset.words import count_words

DATASET = uuid4()


def numbers(text: str, dataset_id: UUID = DATASET) -> set[int]:
    return set(count_words(text, dataset_id).numbers)


@pytest.mark.parametrize(
    ("question", "passage"),
    [
        ("Indexed documents", "the indexing of a DOCUMENT"),
        ("冰柜温度", "低温冰柜的温度是零下八十度"),
        ("ＡＢＣ１２３", "abc123"),  # noqa: RUF001 - full width is what is tested
        ("segments", "INDEXING_MAX_SEGMENTS"),
        ("indexing_max_segments", "INDEXING_MAX_SEGMENTS"),
        ("os path join", "os.path.join"),
        ("Größe", "GRÖSSE größe"),
    ],
)
def test_a_question_finds_other_forms_of_its_words(question: str, passage: str) -> None:
    assert numbers(question)
    assert numbers(question) <= numbers(passage)


def test_words_are_counted() -> None:
    counts = count_words("Pump, pumps and the valve; 水泵水泵", DATASET)

    assert counts.length == 5
    assert sorted(counts.frequencies) == [1, 2, 2]


@pytest.mark.parametrize("text", ["", " \n", "--- *** ???", "the of and 的了", "___"])
def test_what_has_no_word_has_no_number(text: str) -> None:
    assert count_words(text, DATASET).numbers == []
    assert count_words(text, DATASET).length == 0


def test_different_words_and_different_datasets_share_no_number() -> None:
    assert numbers("pump") != numbers("valve")
    assert not numbers("the pump and its valve") & numbers("the pump and its valve", uuid4())


@given(st.text(max_size=200))
def test_any_text_has_as_many_frequencies_as_numbers_and_each_fits_its_column(text: str) -> None:
    counts = count_words(text, DATASET)

    assert len(counts.numbers) == len(set(counts.numbers)) == len(counts.frequencies)
    assert all(-(2**63) <= number < 2**63 for number in counts.numbers)
    assert sum(counts.frequencies) == counts.length


def test_a_word_repeated_for_ever_fits_its_column() -> None:
    counts = count_words("pump " * 40_000, DATASET)

    assert counts.frequencies == [32_767]
