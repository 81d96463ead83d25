"""No loose numbers: a measured number in prose is glued; one that is given says so, or stands beside its source."""

import re

import pytest
import yaml
from conftest import ROOT
from notebooks import plain

PAGES = sorted(path.stem for path in (ROOT / "book").glob("*.md"))
LEDGER = yaml.safe_load((ROOT / "book/claims.yml").read_text("utf-8"))
NUMBER = r"(?<![\w.\-])\d[\d,]*(?:\.\d+)?"
MEASURED = re.compile(
    rf"(?P<before>{NUMBER})(?:\s?%|\s(?:per\s+cent|points?|nats?|seconds?|s|ms|minutes?|hours?|times)\b)"
    rf"|\b(?:accuracy|error|loss|cost|ratio)\s+(?:is|was|of)\s+(?P<after>{NUMBER})"
)
HIDDEN = (  # what is no prose, and what no reader takes for our measurement: quotations and what an exercise supposes
    *(
        r"\A---\n.*?^---\n",
        r"^(`{3,})\{code-cell\}.*?^\1$",
        r"^(`{3,})\{exercise\}.*?^\1$",
        r"\$\$.*?\$\$",
        r"\$[^$]+\$",
    ),
    *(r"`[^`]*`", r"\"[^\"]*\"", r"<!--.*?-->", r"^:[\w-]+:.*?$"),
)


def blanked(text):
    """The page with all that is no prose turned to blanks: lines and columns stay."""
    for pattern in HIDDEN:
        text = re.sub(pattern, lambda match: re.sub(r"[^\n]", " ", match[0]), text, flags=re.S | re.M)
    return text


def sentences(text):
    """Start and end of every sentence; a cell of a table, a heading and an item of a list end one too."""
    start = 0
    for end in re.finditer(r"[.!?][)*\"”]*\s+(?=[^a-z\s])|\n\s*\n|\n(?=[#|\-:]|\s*\d+\.)|\|", text):
        yield start, end.end()
        start = end.end()
    yield start, len(text)


def figures(chapter):
    """The numbers that the lectures state of what a chapter answers."""
    entries = [entry for entry in LEDGER["claims"] + LEDGER["slips"] if entry["chapter"] == chapter]
    return {float(found.replace(",", "")) for entry in entries for found in re.findall(NUMBER, repr(entry))}


def loose(page, text):
    """The lines and numbers of a page that are typed, measured by their looks, and neither given nor a source's."""
    prose, known, found = blanked(text), figures(page), []
    for start, end in sentences(prose):
        if "{cite" in text[start:end] and page not in ("glossary", "notation"):
            continue
        for match in MEASURED.finditer(prose, start, end):
            number = match["before"] or match["after"]
            if float(number.replace(",", "")) not in known:
                found.append(f"{page}.md:{text.count(chr(10), 0, match.start()) + 1}: {match[0]}")
    return found


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_no_loose_number(page):
    found = loose(page, (ROOT / f"book/{page}.md").read_text("utf-8"))
    assert not found, "glue what was measured; mark what is set or supposed as {given}`...`:\n" + "\n".join(found)


@pytest.mark.parametrize(
    "planted",
    [
        "It reaches 98.31 %.",
        "The loss is 0.31 after that.",
        "On this machine it took 12.5 seconds.",
        "| ours | 98.31 % |",
        "- **98.31 %**, and that in two epochs.",
    ],
)
def test_a_loose_number_is_found_and_its_line_named(planted):
    text = (ROOT / "book/convolutional_networks.md").read_text("utf-8") + f"\n{planted}\n"
    (found,) = loose("convolutional_networks", text)
    assert found.startswith(f"convolutional_networks.md:{len(text.splitlines())}: ")


@pytest.mark.parametrize(
    "allowed",
    [
        "It reaches {glue:text}`some-accuracy`.",
        "The target is {given}`98.31 %`.",
        "They report 98.31 % {cite}`somebody2020`.",
        "It reaches 99.06 %, as the lecture says.",
        "That is $0.9831 = 98.31$ % of it.",
        "```{code-cell}\nprint('98.31 %')\n```",
    ],
)
def test_a_number_that_is_glued_given_cited_or_the_lectures_is_none(allowed):
    assert not loose("convolutional_networks", f"A page.\n\n{allowed}\n")


def test_a_notebook_shows_a_given_number_as_plain_text():
    assert plain("The target is {given}`80 %`.", {}, {}, {}) == "The target is 80 %."


@pytest.mark.parametrize("page", PAGES)
def test_no_line_of_prose_begins_with_a_per_cent_sign(page):
    """MyST takes it for a comment, and the rest of the sentence is gone."""
    text = blanked((ROOT / "book" / f"{page}.md").read_text("utf-8"))
    assert not re.findall(r"^\s*%.*", text, re.M)
