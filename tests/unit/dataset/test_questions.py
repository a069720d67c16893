import io

import pytest

from shared.errors import EmptyFile, Permanent, ServiceUnavailable, UnreadableFile
from worker.services.dataset.extracting import extract_rows
from worker.services.dataset.limits import Limits
from worker.services.dataset.questions import pairs_of_passages, pairs_of_table
from worker.services.dataset.splitting import Passage

LIMITS = Limits(10**9, 10**9, 10**9, 100, 100)


def pairs(content, name="faq.csv"):
    raw = content.encode()
    rows = extract_rows(io.BytesIO(raw), name, len(raw), LIMITS)
    return [(one.text, one.answer) for one in pairs_of_table(rows, name, str)]


@pytest.mark.parametrize(
    "content",
    [
        "question,answer\nWho?,Me\nWhen?,Now\n",
        "QUESTION,Answer\nWho?,Me\nWhen?,Now\n",
        " Answer ,id, Question\nMe,1,Who?\nNow,2,When?\n",
        "问题,答案\nWho?,Me\nWhen?,Now\n",
        "Who?,Me\nWhen?,Now\n",
        "Who?,Me,a third column\n\n  \nWhen?,Now\n",
        "question;answer\nWho?;Me\nWhen?;Now\n",
        "sep=;\nquestion;answer\nWho?;Me\nWhen?;Now\n",
        "\ufeffquestion,answer\r\nWho?,Me\r\nWhen?,Now\r\n",
        "question,answer\n,\nWho?,Me\n,,\nWhen?,Now\n",
    ],
)
def test_pairs_are_found_by_the_names_of_the_columns_or_are_the_first_two(content):
    assert pairs(content) == [("Who?", "Me"), ("When?", "Now")]


def test_tab_separated_pairs_and_cells_of_several_lines():
    content = 'question\tanswer\n"Who\nis it?"\t"Me,\nmyself"\n'
    assert pairs(content, "faq.tsv") == [("Who\nis it?", "Me,\nmyself")]


def test_a_row_without_question_or_answer_is_named_by_its_number():
    content = "question,answer\nWho?,Me\n\nWhen?,\n,Now\nWhere?\n"
    with pytest.raises(UnreadableFile) as refused:
        pairs(content)
    assert str(refused.value) == (
        "faq.csv: row 4 has no answer, row 5 has no question, row 6 has no answer: "
        "give every row a question and an answer, then upload it again"
    )


def test_after_a_wrong_row_nothing_more_is_made_of_the_table():
    rows = [(1, ["Who?", "Me"]), (2, ["When?"]), (3, ["Where?", "Here"])]
    made = []
    with pytest.raises(UnreadableFile, match="row 2 has no answer"):
        made.extend(one.text for one in pairs_of_table(rows, "faq.csv", str))
    assert made == ["Who?"]


def test_of_many_wrong_rows_ten_are_named_and_all_are_counted():
    content = "question,answer\n" + "Who?,\n" * 1500
    with pytest.raises(UnreadableFile, match=r"row 11 has no answer and 1,490 more:"):
        pairs(content)


@pytest.mark.parametrize("content", ["question,answer\n", "\n\n", ",,\n , \n"])
def test_a_table_without_a_pair_is_an_error(content):
    with pytest.raises(EmptyFile):
        pairs(content)


def test_rows_stream():
    def rows():
        yield 1, ["Who?", "Me"]
        raise AssertionError("read further than asked")

    assert next(pairs_of_table(rows(), "faq.csv", str)).text == "Who?"


class Writer:
    """Answers from a table of passages."""

    def __init__(self, answers):
        self.answers = answers

    def write(self, passages):
        return [self.answers[one] for one in passages if one in self.answers]


def passages(*texts):
    return [Passage(text, 3, is_markdown=True) for text in texts]


def test_each_passage_gives_its_pairs_and_one_without_stays_itself():
    writer = Writer({"a": [("Who?", "Me"), ("When?", " Now ")], "b": [], "c": [("", "x")]})
    made = list(pairs_of_passages(passages("a", "b", "c"), "a.txt", writer))
    assert [(one.text, one.answer, one.page) for one in made] == [
        ("Who?", "Me", 3),
        ("When?", "Now", 3),
        ("b", "b", 3),
        ("c", "c", 3),
    ]


def test_a_writer_that_leaves_out_a_passage_is_not_believed():
    writer = Writer({"a": [("Who?", "Me")]})
    with pytest.raises(Permanent, match="answered for 1 of 2 passages"):
        list(pairs_of_passages(passages("a", "b"), "a.txt", writer))


def test_a_writer_that_fails_fails_the_document_not_the_passage():
    class Away:
        def write(self, _):
            raise ServiceUnavailable

    with pytest.raises(ServiceUnavailable):
        list(pairs_of_passages(passages("a"), "a.txt", Away()))


def test_without_a_writer_there_is_a_way_out():
    with pytest.raises(Permanent, match="upload a CSV with the columns question and answer"):
        list(pairs_of_passages(passages("a"), "a.txt", None))
