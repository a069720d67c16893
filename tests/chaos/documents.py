"""Documents made up from a number, and what undisturbed indexing makes of them."""

import io
import random
import zipfile
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from benchmarks.baseline.parsing import embedded_passages

#: About as many words as fill a segment of 300 tokens.
_WORDS_A_SEGMENT = 170
_WORDS = [
    "valve",
    "line",
    "pump",
    "filter",
    "pressure",
    "sensor",
    "panel",
    "service",
    "manual",
    "engine",
    "cover",
    "bolt",
    "torque",
    "oil",
    "coolant",
    "replace",
    "remove",
    "inspect",
    "tighten",
    "measure",
    "clean",
    "check",
    "before",
    "after",
    "until",
    "every",
    "second",
    "left",
    "right",
    "upper",
    "lower",
    "value",
    "table",
    "figure",
    "section",
    "warning",
    "note",
    "the",
    "of",
    "to",
    "and",
    "with",
]

#: Kinds that can be read, and those that must end as ``error``, with a part of their reason.
GOOD = ("txt", "md", "html")
BAD = {"empty": "0 bytes", "broken": "broken.docx"}


@dataclass(frozen=True, slots=True)
class DocumentSpec:
    """A document that can be made at any place: its content follows from its numbers."""

    key: str
    kind: str
    segments: int
    seed: int

    @property
    def name(self) -> str:
        """The file's name; its ending decides how it is read."""
        if self.kind in BAD:
            return "empty.txt" if self.kind == "empty" else "broken.docx"
        return f"{self.key}.{self.kind}"

    @property
    def is_good(self) -> bool:
        """Whether it can be indexed."""
        return self.kind not in BAD

    def content(self) -> bytes:
        """The file, the same each time."""
        return _content(self)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@cache
def _content(spec: DocumentSpec) -> bytes:
    if spec.kind == "empty":
        return b""
    if spec.kind == "broken":
        return _truncated_docx(spec.seed)
    choose = random.Random(spec.seed)
    paragraphs = [_paragraph(choose) for _ in range(spec.segments * 2)]
    title = f"Document {spec.key} of {spec.seed}"
    if spec.kind == "html":
        body = "".join(f"<p>{one}</p>" for one in paragraphs)
        return f"<html><body><h1>{title}</h1>{body}</body></html>".encode()
    heading = f"# {title}" if spec.kind == "md" else title
    return "\n\n".join([heading, *paragraphs]).encode()


def _paragraph(choose: random.Random) -> str:
    words = choose.choices(_WORDS, k=_WORDS_A_SEGMENT // 2)
    sentences = [" ".join(words[at : at + 12]).capitalize() for at in range(0, len(words), 12)]
    return ". ".join(sentences) + "."


def _truncated_docx(seed: int) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("word/document.xml", f"<w:document>{seed}" + "<w:p/>" * 200)
    return packed.getvalue()[:-30]


@cache
def expected_hashes(spec: DocumentSpec) -> tuple[str, ...]:
    """The content hash of each segment, in order, by the product's own splitter and embedder."""
    if not spec.is_good:
        return ()
    return tuple(one.content_hash for one in embedded_passages(spec.name, spec.content()))
