"""Every mail in a real browser: on a phone and a desk, light and dark."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.submitting.mail_kinds import KINDS, LANGUAGES
from tests.fixtures.browser import CHROMIUM, opened_browser
from tests.unit.mail.samples import sample_composer

PHONE, DESK = {"width": 360, "height": 740}, {"width": 1280, "height": 800}
#: What WCAG 2 asks of text, as a ratio of luminances.
LEAST_CONTRAST = 4.5

# What is drawn where; the colour behind an element is its nearest ancestor's that has one.
LOOK = """() => {
  const behind = (one) => {
    for (; one; one = one.parentElement) {
      const color = getComputedStyle(one).backgroundColor;
      if (color !== 'rgba(0, 0, 0, 0)') return color;
    }
    return 'rgb(255, 255, 255)';
  };
  const texts = [...document.querySelectorAll('h1, p, li, a, div')]
    .filter((one) => one.innerText.trim());
  return {
    text: document.body.innerText,
    width: document.documentElement.scrollWidth,
    smallest: Math.min(...texts.map((one) => parseFloat(getComputedStyle(one).fontSize))),
    colors: texts.map((one) => [getComputedStyle(one).color, behind(one), one.innerText]),
    title: document.title,
    lang: document.documentElement.lang,
  };
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("there is no chromium here: apt-get install chromium")
    with opened_browser() as opened:
        yield opened


def luminance(color: str) -> float:
    parts = [int(one) / 255 for one in re.findall(r"\d+", color)[:3]]
    linear = [one / 12.92 if one <= 0.03928 else ((one + 0.055) / 1.055) ** 2.4 for one in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_every_mail_is_readable_in_every_language(browser: Any, tmp_path: Path) -> None:
    composer = sample_composer(color="#1f5fbf")
    pages = {
        (viewport["width"], scheme): browser.new_page(viewport=viewport, color_scheme=scheme)
        for viewport, scheme in ((PHONE, "dark"), (DESK, "light"))
    }
    seen: dict[str, set[str]] = {kind.name: set() for kind in KINDS}
    for kind in KINDS:
        for language in LANGUAGES:
            content = composer.render(kind, language, kind.samples)
            for (width, _), page in pages.items():
                page.set_content(content.html)
                look = page.evaluate(LOOK)
                what = f"{kind.name} {language} {width}"
                assert look["width"] <= width, f"{what} is wider than its window"
                assert look["smallest"] >= 14, what
                assert (look["title"], look["lang"]) == (content.subject, language)
                assert not re.search(r"\{\{|\}\}|\{%|undefined|None|null", look["text"]), what
                for color, background, text in look["colors"]:
                    assert contrast(color, background) >= LEAST_CONTRAST, (what, text)
                if "code" in kind.samples:
                    assert kind.samples["code"] in look["text"]
                if kind.link:
                    assert page.get_attribute("a.button", "href").startswith("https://app.")
            seen[kind.name].add(look["text"])
    untranslated = [name for name, texts in seen.items() if len(texts) < len(LANGUAGES)]
    assert untranslated == []
