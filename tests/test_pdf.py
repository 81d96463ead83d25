"""The printed book: a small one is printed and read back."""

import re

import pdf
import pytest
from conftest import HEADER, build
from pypdf import PdfReader

FIGURES = """\
```{code-cell}
import calipers
import matplotlib.pyplot as plt
import plotly.graph_objects as go
calipers.style()
figure = go.Figure(go.Scatter(y=[1, 2]), frames=[go.Frame(data=[go.Scatter(y=[n, 2])]) for n in range(2)])
static = plt.figure()
static.add_subplot().plot([1, 2])
calipers.show_interactive(figure, static, knobs={"depth": ["two", "five"]}, alt="A line that depth bends.")
```
"""
LONG = f"""{HEADER}# A long page

{"A sentence that fills the page. " * 400}

{FIGURES}

## Far below

$$ a^2 + b^2 = c^2 $$ (eq-pythagoras)

By {{eq}}`eq-pythagoras` the rest follows.

```{{exercise}} Add
:label: ex-add
What is one and one?
```

```{{solution}} ex-add
:class: dropdown
It is two, as folded.
```
"""
TOC = """\
format: jb-book
root: book/index
parts:
  - caption: A part
    chapters:
      - file: book/long
      - file: book/tiny
"""


@pytest.fixture
def long_book(small_book):
    """A book of three pages, one of them long; its folder."""
    if not pdf.chromium():
        pytest.skip("no Chromium is installed: apt-get install chromium")
    (small_book / "book/long.md").write_text(LONG)
    (small_book / "_toc.yml").write_text(TOC)
    build(small_book)
    return small_book


def test_the_book_is_printed_as_it_should_be_read(long_book, subtests, monkeypatch):
    printed = PdfReader(pdf.write(long_book))
    texts = [" ".join(page.extract_text().split()) for page in printed.pages]
    with subtests.test("title page"):
        assert "Deep Learning, Measured" in texts[0]
    with subtests.test("each page but the first says its number"):
        assert all(re.search(rf"\b{number}\b", text) for number, text in enumerate(texts[1:], start=2))
    with subtests.test("the table of contents names the page of each heading"):
        for heading in ("Preface", "A long page", "Far below", "Tiny"):
            (number,) = re.findall(rf"{heading} (\d+)", texts[1])
            assert heading in texts[int(number) - 1]
        assert len(set(re.findall(r"(?:A long page|Far below|Tiny) (\d+)", texts[1]))) == 3
    with subtests.test("outline"):
        preface, part, (long, (below,), tiny) = printed.outline
        titles = [entry.title for entry in (preface, part, long, below, tiny)]
        assert titles == ["Preface", "A part", "A long page", "Far below", "Tiny"]
    with subtests.test("equation and its number"):
        assert sum(text.count("(1)") for text in texts) == 2
    with subtests.test("solution unfolded"):
        assert any("It is two, as folded." in text for text in texts)
    with subtests.test("static figure in place of the interactive one"):
        (figures,) = [
            page for page, text in zip(printed.pages, texts, strict=True) if "sliders change it: depth" in text
        ]
        assert len(figures.images) == 1
    with subtests.test("record"):
        assert any("It measured 42" in text for text in texts)
    with subtests.test("a table of contents that moves the pages is refused"):
        monkeypatch.setattr(pdf, "NUMBER", "() => { document.querySelector('nav').style.height = '600mm' }")
        with pytest.raises(SystemExit, match="moved the pages"):
            pdf.write(long_book)
