import io
import random
import tracemalloc
from pathlib import Path

import pytest

from shared.errors import EmptyFile, EncryptedFile, LimitExceeded, UnreadableFile
from tests.fixtures import office_files
from tests.unit.dataset.made_files import (
    ELF,
    OLE,
    PNG,
    docx,
    flagged_encrypted,
    pdf,
    understated,
    zip_file,
)
from worker.providers.kreuzberg import KreuzbergParser
from worker.providers.parser import Block
from worker.services.dataset.extracting import BLOCK_CHARACTERS, Limits, extract

LIMITS = Limits(
    file_bytes=256 * 1024**2,
    parsed_file_bytes=16 * 1024**2,
    unpacked_bytes=8 * 1024**2,
    unpacked_ratio=200,
    archive_members=100,
)
SAMPLES = Path(__file__).parents[3] / "worker" / "samples" / "documents"
CHINESE = "红隼岛研究站位于顿维克港以东十四海里。今天的天气很好。我们一起去码头看船。\n"
TAIWANESE = "紅隼島研究站位於頓維克港以東十四海里。今天的天氣很好。我們一起去碼頭看船。\n"
JAPANESE = "今日は天気がとても良いので、みんなで港へ船を見に行きました。カタカナも使います。\n"
KOREAN = "오늘은 날씨가 매우 좋아서 모두 함께 항구로 배를 보러 갔습니다.\n"
RUSSIAN = "Сегодня погода очень хорошая, и мы все вместе пошли в порт смотреть корабли.\n"
GREEK = "Σήμερα είναι πολύ καλός και πήγαμε όλοι μαζί στο λιμάνι.\n"
FRENCH = "L'été dernier, nous sommes allés à la plage où il y avait déjà “tout” le monde.\n"
GERMAN = "Die Straße ist schön, die Brücke über den Fluß für größere Wagen gesperrt.\n"
POLISH = "Zażółć gęślą jaźń, wszyscy poszliśmy do portu oglądać statki.\n"
BOMB = docx("0" * 20_000_000)
NOISE = random.Random(7).randbytes(5000)


@pytest.fixture(scope="module")
def parser():
    return KreuzbergParser()


@pytest.fixture
def text_of(parser):
    def read(name: str, content: bytes, limits: Limits = LIMITS) -> str:
        blocks = extract(io.BytesIO(content), name, len(content), limits, parser)
        return "".join(block.text for block in blocks)

    return read


@pytest.mark.parametrize(
    ("name", "content", "error", "words"),
    [
        ("empty.txt", b"", EmptyFile, "0 bytes"),
        ("empty.csv", b"", EmptyFile, "0 bytes"),
        ("blank.txt", b" \n\t\r\n", EmptyFile, "no text"),
        ("bom.txt", b"\xef\xbb\xbf", EmptyFile, "no text"),
        ("blank.csv", b"\n,,\n", EmptyFile, "no text"),
        ("no-text.html", b"<html><head><title>T</title></head></html>", EmptyFile, "no text"),
        ("script.html", b"<body><script>x()</script></body>", EmptyFile, "no text"),
        ("secret.pdf", pdf("Hello", "secret"), EncryptedFile, "password"),
        ("secret.docx", OLE, EncryptedFile, "password"),
        ("secret.odt", flagged_encrypted(docx("Hello")), EncryptedFile, "password"),
        ("cut.pdf", pdf("Hello")[:300], UnreadableFile, "damaged"),
        ("cut.docx", docx("Hello")[:-300], UnreadableFile, "cut short"),
        ("half.docx", docx("Hello" * 5000)[200:], UnreadableFile, "damaged"),
        ("bomb.docx", BOMB, LimitExceeded, "INDEXING_MAX_UNPACKED"),
        ("bomb.xlsx", BOMB, LimitExceeded, "INDEXING_MAX_UNPACKED"),
        ("bomb.epub", BOMB, LimitExceeded, "INDEXING_MAX_UNPACKED"),
        ("liar.docx", understated(BOMB), LimitExceeded, "INDEXING_MAX_UNPACKED"),
        ("prefixed.docx", b"junk" + understated(BOMB), LimitExceeded, "UNPACKED"),
        ("bomb.zip", zip_file({"inner.zip": BOMB}), UnreadableFile, "unpack it"),
        ("no-ending", BOMB, UnreadableFile, "unpack it"),
        ("png.pdf", PNG, UnreadableFile, "PNG"),
        ("text.docx", b"just text", UnreadableFile, "not what its ending says"),
        ("png.txt", PNG, UnreadableFile, "PNG"),
        ("elf.txt", ELF, UnreadableFile, "program"),
        ("zip.txt", docx("Hello"), UnreadableFile, "ZIP"),
        ("pdf.md", pdf("Hello"), UnreadableFile, "PDF"),
        ("noise.txt", NOISE, UnreadableFile, "binary"),
        ("noise.csv", NOISE, UnreadableFile, "binary"),
        ("noise.bin", NOISE, UnreadableFile, "binary"),
        ("elf", ELF, UnreadableFile, "program"),
        ("picture.png", PNG, UnreadableFile, "PNG"),
        ("lines.json", b'{"a": 1}\n{"b": 2}\n', UnreadableFile, "JSON"),
        ("deep.xml", b"<a>" * 300_000, LimitExceeded, "elements"),
        ("wide.xml", b"<a>" + b"<b/>" * 100_000 + b"</a>", LimitExceeded, "elements"),
        ("deep.epub", zip_file({"a.xhtml": "<div>" * 100_000}), LimitExceeded, "elements"),
        ("nested.eml", b"Content-Type: message/rfc822\n\n" * 3000, UnreadableFile, "nests"),
        ("open.xml", b"<a><b></a>", UnreadableFile, "well-formed"),
        ("deep.json", b"[" * 200_000, UnreadableFile, "recursion"),
        ("quote.csv", b'a,b\n1,"open\n' + b"2,3\n" * 1_200_000, UnreadableFile, "quote"),
        ("line.csv", b"x" * 17 * 1024**2, UnreadableFile, "line"),
    ],
)
def test_what_cannot_be_read_says_why_in_one_line(text_of, name, content, error, words):
    with pytest.raises(error) as raised:
        text_of(name, content)
    message = str(raised.value)
    assert type(raised.value) is error
    assert name in message
    assert words in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../etc/pass\nwd.txt", "pass wd.txt"),
        ("..\\..\\boot.TXT", "boot.TXT"),
        ("\ud800\x00\u202e\n", "the file"),
        ("..", "the file"),
        ("🚢" * 300 + ".TXT", "🚢" * 50 + "…"),
    ],
)
def test_a_strange_name_is_told_in_one_short_printable_line(text_of, name, shown):
    with pytest.raises(EmptyFile) as raised:
        text_of(name, b"")
    message = str(raised.value)
    assert shown in message
    assert message.isprintable()
    assert ".." not in message
    assert len(message) < 200


def test_a_very_long_name_keeps_its_ending(text_of):
    assert text_of("x" * 5000 + ".CSV", b"a,b\n1,2\n") == "a: 1; b: 2\n"


def test_sizes_are_checked_before_reading(text_of):
    tight = Limits(10, 5, 5, 5, 5)
    with pytest.raises(LimitExceeded, match="INDEXING_MAX_FILE_BYTES"):
        text_of("a.txt", b"01234567890", tight)
    with pytest.raises(LimitExceeded, match="INDEXING_MAX_PARSED_FILE_BYTES"):
        text_of("a.pdf", b"%PDF-1.4", tight)


def test_many_members_are_refused(text_of):
    with pytest.raises(LimitExceeded, match="INDEXING_MAX_ARCHIVE_MEMBERS"):
        text_of("a.docx", zip_file({str(number): b"" for number in range(101)}))


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("utf-8", CHINESE),
        ("utf-8-sig", CHINESE),
        ("utf-16", CHINESE),
        ("utf-16-le", CHINESE),
        ("utf-16-be", CHINESE),
        ("utf-16-le", FRENCH),
        ("utf-16-be", RUSSIAN),
        ("utf-32", CHINESE),
        ("gb18030", CHINESE),
        ("gbk", CHINESE),
        ("big5", TAIWANESE),
        ("shift_jis", JAPANESE),
        ("euc_jp", JAPANESE),
        ("iso2022_jp", JAPANESE),
        ("euc_kr", KOREAN),
        ("cp1251", RUSSIAN),
        ("koi8_r", RUSSIAN),
        ("cp1253", GREEK),
        ("cp1252", FRENCH),
        ("latin-1", GERMAN),
        ("cp1250", POLISH),
    ],
)
@pytest.mark.parametrize("times", [1, 2000])
def test_text_is_read_in_the_encoding_it_is_in(text_of, encoding, text, times):
    content = (text * times).encode(encoding)
    assert text_of("a.txt", content).removeprefix("\ufeff") == text * times


@pytest.mark.parametrize(
    ("encoding", "text"), [("gbk", "重庆"), ("gbk", "name,城市\n"), ("latin-1", "café")]
)
def test_a_few_characters_are_enough(text_of, encoding, text):
    assert text_of("a.txt", text.encode(encoding)) == text


@pytest.mark.parametrize("encoding", ["gbk", "cp1252", "utf-8", "big5"])
@pytest.mark.parametrize("ascii_bytes", [65_536, 1_048_575, 1_048_576, 3_000_000])
def test_the_encoding_is_chosen_where_ascii_ends(text_of, encoding, ascii_bytes):
    text = {"gbk": CHINESE, "cp1252": FRENCH, "utf-8": CHINESE, "big5": TAIWANESE}[encoding]
    plain = ("a plain line of a log\n" * 150_000)[: ascii_bytes - 1] + "\n"
    assert text_of("a.log", plain.encode() + text.encode(encoding)) == plain + text


def test_two_encodings_in_one_file_are_refused_rather_than_garbled(text_of):
    with pytest.raises(UnreadableFile, match="one encoding"):
        text_of("a.txt", CHINESE.encode() * 50 + CHINESE.encode("gbk") * 50)


def test_stray_bytes_cost_only_themselves(text_of):
    assert text_of("a.txt", "日本".encode() + b"\xed\xa0\xbd!").strip("\ufffd!") == "日本"
    assert text_of("a.txt", b"plain \xed\xa0\xbd\xed\xb8\x80 end").endswith(" end")
    assert text_of("a.txt", b"a\0b, a long line of text\n") == "a\0b, a long line of text\n"


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("header.csv", b"name,town\n", "name, town\n"),
        ("rows.csv", b"a,b\n1,2\n3,4\n", "a: 1; b: 2\na: 3; b: 4\n"),
        ("ragged.csv", b"a,b\n1\n1,2,3\n", "a: 1\na: 1; b: 2; 3\n"),
        ("twice.csv", b"a,a,,\n1,2,3,4\n", "a: 1; a: 2; 3; 4\n"),
        ("blank-first.csv", b"\n\na,b\n1,2\n", "a: 1; b: 2\n"),
        ("bom.csv", '\ufeffName;Ort\nAnna;"Köln; Süd"\n'.encode(), "Name: Anna; Ort: Köln; Süd\n"),
        ("tab.csv", b"a\tb\n1\t2,5\n", "a: 1; b: 2,5\n"),
        ("bar.csv", b"a|b\n1|2\n", "a: 1; b: 2\n"),
        ("excel.csv", b"sep=|\r\na|b\r\n1|2\r\n", "a: 1; b: 2\n"),
        ("rows.tsv", b"a\tb\n1\t2\n", "a: 1; b: 2\n"),
        ("mac.csv", b"a,b\r1,2\r", "a: 1; b: 2\n"),
        ("lines.csv", b'a,b\n"1\n1",2\n', "a: 1\n1; b: 2\n"),
        ("nul.csv", b"a,b\n1\0,22222222222222222222222222\n", "a: 1; b: " + "2" * 26 + "\n"),
        ("gbk.csv", "城市,人口\n重庆,三千万\n".encode("gbk"), "城市: 重庆; 人口: 三千万\n"),
        ("one-column.csv", b"town\nOslo, Norway\nBergen\n", "town: Oslo; Norway\ntown: Bergen\n"),
        ("open-quote.csv", b'a,b\n1,"2\n3,4\n', "a: 1; b: 2\n3,4\n"),
    ],
)
def test_a_row_becomes_a_line_that_names_its_columns(text_of, name, content, text):
    assert text_of(name, content) == text


def test_large_fields_and_many_columns_are_read(text_of):
    field = "long text " * 30_000
    assert text_of("a.csv", f'a,b\n1,"{field}"\n'.encode()) == f"a: 1; b: {field.strip()}\n"
    numbers = ",".join(map(str, range(100_000)))
    text = text_of("b.csv", f"{numbers}\n{numbers}\n".encode())
    assert text.startswith("0: 0; 1: 1; ")
    assert text.endswith("99999: 99999\n")


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("a.pdf", pdf("Hello PDF"), "Hello PDF"),
        ("A.DOCX", docx("Hello DOCX"), "Hello DOCX"),
        ("a.docm", docx("Hello DOCM"), "Hello DOCM"),
        ("a.pptx", office_files.pptx(["Harbour", "Bells"]), "Bells"),
        ("a.xlsx", office_files.xlsx({"A": [["boat"]], "B": [["berth", "lamp"]]}), "lamp"),
        ("a.xlsm", office_files.xlsx({"A": [["boat"]], "B": [["berth", "lamp"]]}), "boat"),
        ("a.odt", office_files.odt("Hello ODT"), "Hello ODT"),
        ("a.ods", office_files.ods([["boat", "berth"], ["Tern", "4"]]), "Tern"),
        ("a.epub", office_files.epub(["Hello chapter", "second chapter"]), "second chapter"),
        ("a.rtf", rb"{\rtf1\ansi Hello {\b RTF}}", "RTF"),
        ("a.eml", b"Subject: lamp\n\nHello mail\n", "Hello mail"),
        ("a.yaml", b"boat: Tern\n", "Tern"),
        ("README", b"read me", "read me"),
        ("main.py", b"print(1)", "print(1)"),
        ("page", b"<!DOCTYPE html><p>Hello <b>page</b></p>", "Hello **page**"),
        ("picture.md", b"![boat](boat.png)", "boat"),
        ("rows.jsonl", b'{"a": 1}\n{"b": 2}\n', '{"b": 2}'),
        ("a.json", b'{"a": "hello"}', "hello"),
        ("a.xml", '<?xml version="1.0" encoding="GBK"?><a>中文</a>'.encode("gbk"), "中文"),
        ("a.html", '<meta charset="gb2312"><p>中文内容</p>'.encode("gbk"), "中文内容"),
        ("b.html", "<p>中文内容</p>".encode("utf-16"), "中文内容"),
        ("c.html", '<meta charset="gb2312"><p>中文</p>'.encode(), "中文"),
        ("d.html", '<meta charset="no-such"><p>中文内容</p>'.encode("gbk"), "中文内容"),
    ],
)
def test_text_comes_out_of_every_format(text_of, name, content, part):
    assert part in text_of(name, content)


@pytest.mark.parametrize("charset", ["utf-8", "gb2312", "big5", "iso-2022-jp", "iso-8859-1"])
def test_a_mail_is_read_in_its_own_encoding(text_of, charset):
    body = {"gb2312": CHINESE, "big5": TAIWANESE, "iso-2022-jp": JAPANESE}.get(charset, GERMAN)
    head = f"From: a@b.c\nMIME-Version: 1.0\nContent-Type: text/plain; charset={charset}\n\n"
    assert body.strip() in text_of("a.eml", head.encode() + body.encode(charset))


@pytest.mark.parametrize("path", sorted(SAMPLES.iterdir()), ids=lambda path: path.suffix)
def test_the_samples_are_read(text_of, path):
    text = text_of(path.name, path.read_bytes())
    assert len(text) > 500
    assert "\ufffd" not in text
    assert "title:" not in text


@pytest.mark.parametrize("unit", ["word ", "x", "中", "a\n", "🚢 \n\n"])
def test_a_long_text_comes_in_bounded_blocks_and_whole(parser, unit):
    text = unit * (3_000_000 // len(unit))
    content = text.encode()
    blocks = list(extract(io.BytesIO(content), "a.txt", len(content), LIMITS, parser))
    assert all(len(block.text) <= BLOCK_CHARACTERS for block in blocks)
    assert "".join(block.text for block in blocks) == text


def test_reading_takes_memory_for_a_block_not_for_the_file(tmp_path, parser):
    path = tmp_path / "long.txt"
    path.write_bytes(CHINESE.encode() * 300_000)
    tracemalloc.start()
    with path.open("rb") as file:
        for _ in extract(file, path.name, path.stat().st_size, LIMITS, parser):
            pass
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 12 * 1024**2 < path.stat().st_size


def test_a_file_is_not_kept_while_its_blocks_are_read(tmp_path):
    class Streaming:
        def parse(self, content, name):
            del content
            yield Block("first")
            yield Block("last")

    path = tmp_path / "large.pdf"
    path.write_bytes(b"%PDF-1.7\n" + bytes(12 * 1024**2))
    tracemalloc.start()
    with path.open("rb") as file:
        blocks = extract(file, path.name, path.stat().st_size, LIMITS, Streaming())
        assert next(blocks).text == "first"
        kept_bytes, _ = tracemalloc.get_traced_memory()
        assert next(blocks).text == "last"
    tracemalloc.stop()
    assert kept_bytes < 2 * 1024**2
