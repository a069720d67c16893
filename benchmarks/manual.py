"""A real manual to search: Python's own, as this interpreter has it installed.

A page is the documentation of one module of the standard library (its docstring, and those of
its classes and functions), read from the source, or one chapter of the language reference. A
known item is what somebody remembers of a page without remembering its words' places: the first
sentence of a function's documentation, which is taken out of the page, or a sentence of a
chapter of which every other word is forgotten.
"""

import ast
import os
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from pydoc_data.topics import topics

_LEFT_OUT = {
    *("test", "tests", "idlelib", "lib2to3", "site-packages", "dist-packages", "turtledemo"),
    *("ensurepip", "pydoc_data", "encodings"),
}
_LEAST_CHARACTERS = 400
_QUESTION_WORDS = range(6, 30)


@dataclass(frozen=True, slots=True)
class Page:
    """A page, and a question that it answers, if it has one."""

    name: str
    text: str
    question: str | None


def manual(seed: int) -> list[Page]:
    """The pages, with the same questions for the same seed."""
    choose = random.Random(seed)
    return [*_modules(choose), *_chapters(choose)]


def _modules(choose: random.Random) -> Iterator[Page]:
    library = Path(os.__file__).parent
    for path in sorted(library.rglob("*.py")):
        relative = path.relative_to(library)
        if _LEFT_OUT & set(relative.parts):
            continue
        try:
            tree = ast.parse(path.read_text("utf-8"))
        except (SyntaxError, UnicodeDecodeError):
            continue
        entries = list(_documented(tree))
        name = str(relative.with_suffix("")).replace(os.sep, ".").removesuffix(".__init__")
        whole = f"{name}\n\n{ast.get_docstring(tree) or ''}\n\n"
        if len(whole) + sum(len(text) for _, text in entries) >= _LEAST_CHARACTERS:
            yield _module_page(name, whole, entries, choose)


def _documented(node: ast.AST, owner: str = "") -> Iterator[tuple[str, str]]:
    for child in getattr(node, "body", ()):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        if not child.name.startswith("_") and (text := ast.get_docstring(child)):
            yield owner + child.name, text
        if isinstance(child, ast.ClassDef):
            yield from _documented(child, f"{owner}{child.name}.")


def _module_page(
    name: str, whole: str, entries: list[tuple[str, str]], choose: random.Random
) -> Page:
    # Something is left of the entry without its first sentence.
    possible = [
        (entry, text, first)
        for entry, text in entries
        if len(text) > len(first := _first_sentence(text)) + 80
        and len(first.split()) in _QUESTION_WORDS
    ]
    question = None
    if possible:
        asked, text, question = choose.choice(possible)
        entries = [
            (entry, text.replace(question, "", 1) if entry == asked else found)
            for entry, found in entries
        ]
    return Page(name, whole + "\n\n".join(f"{one}\n{text}" for one, text in entries), question)


def _chapters(choose: random.Random) -> Iterator[Page]:
    for name, text in sorted(topics.items()):
        sentences = [
            sentence
            for sentence in re.split(r"(?<=[.:])\s+", text)
            if len(sentence.split()) in _QUESTION_WORDS and sentence[0].isupper()
        ]
        question = " ".join(choose.choice(sentences).split()[::2]) if sentences else None
        yield Page(f"reference.{name}", text, question)


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=\.)\s|\n\n", text, maxsplit=1)[0]
