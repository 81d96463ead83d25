"""Print the built book to _build/pdf/book.pdf: title page, table of contents with page numbers, every page, no network.

The built pages are joined into one document, which Chromium prints twice: the first print tells on which page each
heading has come to stand, and the second has these numbers in its table of contents.
"""

import html
import io
import json
import re
import shutil
import sys
import time
from pathlib import Path

import matplotlib
import yaml
from playwright.sync_api import sync_playwright
from pypdf import PdfReader
from records import executed_chapters

ROOT = Path(__file__).resolve().parents[1]
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip
FONTS = {  # matplotlib brings them, so that the book breaks into the same pages on every machine
    "STIXGeneral.ttf": "font-family: Book",
    "STIXGeneralItalic.ttf": "font-family: Book; font-style: italic",
    "STIXGeneralBol.ttf": "font-family: Book; font-weight: bold",
    "STIXGeneralBolIta.ttf": "font-family: Book; font-weight: bold; font-style: italic",
    "DejaVuSansMono.ttf": "font-family: Code",
    "DejaVuSansMono-Bold.ttf": "font-family: Code; font-weight: bold",
    "DejaVuSansMono-Oblique.ttf": "font-family: Code; font-style: italic",
}
# Chromium writes a heading twice into the PDF's outline when it is the first line of a page with a name of its own.
FIRST_LINE = "<p>&nbsp;</p>"
HEADING = re.compile(
    r'<section[^>]* id="(?P<id>[^"]+)">\s*(?:<span id="[^"]*"></span>\s*)*<h3>(?P<title>.*?)<a class="headerlink"', re.S
)


def chromium():
    """The path of the installed Chromium, or None."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def contents(root):
    """The book's parts in order: pairs of a caption (None for the preface) and names of pages."""
    toc = yaml.safe_load((root / "_toc.yml").read_text("utf-8"))
    parts = [(part.get("caption"), part["chapters"]) for part in toc.get("parts", [toc])]
    return [(None, [Path(toc["root"]).name])] + [
        (caption, [Path(page["file"]).name for page in pages]) for caption, pages in parts
    ]


def article(root, name):
    """A built page's own text as HTML, with ids that are unique in the book and links that stay in the document."""
    page = (root / "_build/html/book" / f"{name}.html").read_text("utf-8")
    text = re.search(r'<article class="bd-article">(.*)</article>', page, re.S)[1]
    text = re.sub(r"<script.*?</script>", "", text, flags=re.S)
    text = re.sub(r"(</?h)([1-5])", lambda m: f"{m[1]}{int(m[2]) + 1}", text)  # a part is above a chapter
    text = re.sub(r'\bid="', f'id="{name}--', text)
    text = re.sub(r'(href="|url\()#', rf"\1#{name}--", text)
    text = re.sub(r'href="(\w+)\.html#', r'href="#\1--', text)
    text = re.sub(r'href="(\w+)\.html"', r'href="#\1"', text)
    return re.sub(r'src="\.\./', 'src="../html/', text)


def title_of(text):
    """The title of a chapter, as plain text."""
    return re.sub(r"<.*?>", "", re.search(r"<h2>(.*?)<a class=\"headerlink\"", text, re.S)[1])


def entry(kind, anchor, title):
    """One line of the table of contents; its number comes with the second print."""
    return f'<a class="{kind}" href="#{anchor}">{title}<span class="number">000</span></a>'


def cover(root):
    """The title page: what the book is, and which edition of it."""
    config = yaml.safe_load((root / "_config.yml").read_text("utf-8"))
    made = [records[-1]["provenance"] for records in executed_chapters(root).values()]
    profiles = " and ".join(sorted({one["profile"] for one in made}))
    index = (root / "_build/html/book/index.html").read_text("utf-8")
    banner = re.search(r'<div class="bd-header-announcement__content">(.*?)</div>', index, re.S)
    return f"""<div class="cover">
<p class="title">{config["title"]}</p>
<p>{config["author"]}</p>
{f'<p class="banner">{banner[1]}</p>' if banner else ""}
<p class="edition">Every number in it was measured in the {profiles} profile, the last one on
{max(one["date"] for one in made)}.<br>
On the web, with figures that move and code that runs: {config["html"]["baseurl"]}<br>
Text and figures: CC BY 4.0. Code: MIT licence.</p>
</div>"""


def document(root):
    """The whole book as one HTML document."""
    table, styles, body = [], [], []
    for caption, names in contents(root):
        if caption:
            table.append(f'<p class="part">{caption}</p>')
        for name in names:
            text = article(root, name)
            if not body:
                text = re.sub(r"<h2>.*?<a class", "<h2>Preface<a class", text, count=1, flags=re.S)
            title = title_of(text)
            table.append(entry("chapter", name, title))
            table += [entry("section", heading["id"], heading["title"]) for heading in HEADING.finditer(text)]
            head = f"content: {json.dumps(html.unescape(title), ensure_ascii=False)}; font: italic 9pt Book"
            styles.append(f"#{name} {{ page: {name} }} @page {name} {{ @top-center {{ {head} }} }}")
            opener = f"<h1>{caption}</h1>" if caption and name == names[0] else ""
            body.append(f'<div class="page" id="{name}">{FIRST_LINE}{opener}{text}</div>')
    fonts = Path(matplotlib.get_data_path(), "fonts", "ttf")
    styles += [f'@font-face {{ {style}; src: url("{(fonts / file).as_uri()}") }}' for file, style in FONTS.items()]
    return f"""<!DOCTYPE html>
<html lang="en-GB" data-theme="light">
<head>
<meta charset="utf-8">
<title>{yaml.safe_load((root / "_config.yml").read_text("utf-8"))["title"]}</title>
<link rel="stylesheet" href="../html/_static/pygments.css">
<link rel="stylesheet" href="{(ROOT / "tools/pdf.css").as_uri()}">
<style>{"".join(styles)}</style>
<script>MathJax = {{options: {{processHtmlClass: "math"}}}}</script>
<script defer src="../html/_static/mathjax/tex-chtml.js"></script>
</head>
<body class="tex2jax_ignore">
{cover(root)}
<nav><p class="heading">Contents</p>{"".join(table)}</nav>
{"".join(body)}
</body>
</html>
"""


PREPARE = """async () => {
    for (const folded of document.querySelectorAll("details")) folded.open = true
    for (const figure of document.querySelectorAll(".interactive")) {
        const knobs = Array.from(figure.querySelectorAll("label"), label => label.textContent.split(":")[0])
        const twin = document.createElement("img")
        twin.src = `../jupyter_execute/${figure.dataset.twin}`
        twin.alt = figure.getAttribute("aria-label")
        const note = document.createElement("p")
        note.textContent = `. On the web, sliders change it: ${knobs.join(", ")}.`
        figure.replaceChildren(twin, note)
        await twin.decode()
    }
    await MathJax.startup.promise
    await document.fonts.ready
}"""
NUMBER = """numbers => {
    for (const link of document.querySelectorAll("nav a")) {
        const number = numbers[link.hash.slice(1)]
        if (!number) throw new Error(`${link.hash} is on no page`)
        link.querySelector(".number").textContent = number
    }
}"""


def page_numbers(pdf):
    """On which page each anchor of a PDF stands, counted from one."""
    pages = {page.indirect_reference.idnum: number for number, page in enumerate(pdf.pages, start=1)}
    return {name.removeprefix("/"): pages[anchor.page.idnum] for name, anchor in pdf.named_destinations.items()}


def print_twice(page):
    """Print once to learn the page numbers and once with them; the PDF as bytes."""
    page.emulate_media(media="print", color_scheme="light")
    page.evaluate(PREPARE)
    first = page.pdf(prefer_css_page_size=True)
    numbers = page_numbers(PdfReader(io.BytesIO(first)))
    page.evaluate(NUMBER, numbers)
    second = page.pdf(prefer_css_page_size=True, outline=True, tagged=True)
    if page_numbers(PdfReader(io.BytesIO(second))) != numbers:
        sys.exit("The table of contents moved the pages whose numbers it names.")
    return second


def write(root=ROOT):
    """Print the book that was built in `root`; the PDF's path."""
    folder = root / "_build" / "pdf"
    folder.mkdir(exist_ok=True)
    joined = folder / "book.html"
    joined.write_text(document(root), "utf-8")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=QUIET)
        context = browser.new_context(offline=True)
        page = context.new_page()
        page.set_default_timeout(600_000)
        page.goto(joined.as_uri())
        path = folder / "book.pdf"
        path.write_bytes(print_twice(page))
        browser.close()
    return path


if __name__ == "__main__":
    start = time.monotonic()
    if not chromium():
        sys.exit("Printing needs Chromium: apt-get install chromium")
    path = write()
    print(f"Printed in {time.monotonic() - start:.0f} s: {path}")
