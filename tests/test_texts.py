"""What stands beside the lessons: links that lead somewhere, a guide that keeps up with the notebooks, plans that add
up, summaries and a glossary in which no outcome is typed. (mistune comes with JupyterLab, by way of nbconvert.)"""

import ast
import html.parser
import itertools
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import frontends
import mistune
import nbformat
import pytest
from in_browser import end_kernels
from playwright.sync_api import expect
from test_notebooks import LESSONS, NOTEBOOKS, outcomes

import speedkit as sk

TAUGHT = [path for path in NOTEBOOKS if path.stem[0].isdigit()]  # the board is no lesson

FOLDER = Path(__file__).resolve().parent.parent / "notebooks"
GUIDE, SUMMARIES, GLOSSARY = (FOLDER / f"{name}.md" for name in ("guide", "summaries", "glossary"))
TEXTS = (GUIDE, SUMMARIES, GLOSSARY)
SHORTEST_QUOTE = 20  # characters, where the line is as long


class Page(html.parser.HTMLParser):
    """The targets of a page's links, and the texts of its headings."""

    def __init__(self, markdown):
        super().__init__()
        self.links, self.headings, self._inside = [], [], False
        self.feed(mistune.html(markdown))

    def handle_starttag(self, tag, attributes):
        if tag == "a":
            self.links.append(dict(attributes)["href"])
        if re.fullmatch(r"h[1-6]", tag):
            self._inside = True
            self.headings.append("")

    def handle_endtag(self, tag):
        self._inside = self._inside and not re.fullmatch(r"h[1-6]", tag)

    def handle_data(self, data):
        if self._inside:
            self.headings[-1] += data


def on_github(heading):
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def in_jupyterlab(heading):
    """The anchor that JupyterLab gives a heading: it keeps case and punctuation."""
    return heading.replace(" ", "-")


def markdown(path):
    """The words of a text or of a notebook; code cells are left out."""
    if path.suffix == ".md":
        return path.read_text(encoding="utf-8")
    cells = nbformat.read(path, as_version=4).cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def dead(path, links):
    """The links of a page that lead to no file, or to no heading both in JupyterLab and on GitHub."""
    for link in links:
        if re.match(r"(https?|mailto):", link):
            continue
        name, _, anchor = unquote(link).partition("#")
        target = path.parent / name if name else path
        if not target.is_file():
            yield link
        elif anchor:
            headings = Page(markdown(target)).headings
            if not any(anchor == on_github(heading) == in_jupyterlab(heading) for heading in headings):
                yield link


def section(path):
    """The guide's section on a notebook: from its heading, which begins with the same number, to the next one."""
    found = re.findall(rf"^## {path.name[:2]} .*?(?=^## |\Z)", markdown(GUIDE), re.DOTALL | re.MULTILINE)
    assert len(found) == 1, f"{len(found)} sections on {path.name}"
    return found[0]


def tables(text):
    """Tables of a Markdown text: for each, its rows without the heading, as lists of cells."""
    for table in re.findall(r"(?:^\|.*\n)+", text + "\n", re.MULTILINE):
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
        yield rows[0], rows[2:]


def total(cell):
    return int(re.fullmatch(r"\*\*(\d+)\*\*", cell).group(1))


def plans():
    """The guide's plans of a day: their rows (from, minutes, what)."""
    return [rows for heading, rows in tables(markdown(GUIDE)) if heading == ["from", "minutes", "what"]]


# Links


@pytest.mark.parametrize("path", [*TEXTS, *NOTEBOOKS], ids=lambda path: path.name)
def test_every_link_leads_to_a_file_and_a_heading(path):
    links = Page(markdown(path)).links
    assert links, "nothing was read"
    assert list(dead(path, links)) == []


@pytest.mark.parametrize(
    "link",
    [
        "nowhere.md",
        "summaries.md#nowhere",
        "summaries.md#Precision",
        "#nowhere",
        "01_precision.ipynb#reduced-precision",
        "glossary.md#nowhere",
        "glossary.md#batch_normalisation",
    ],
)
def test_a_dead_link_is_found(link):
    assert list(dead(GUIDE, [link])) == [link]


@pytest.mark.parametrize(
    "link", ["summaries.md#early-stopping", "#half-a-day", "07_all_together.ipynb", "glossary.md#by-heart"]
)
def test_a_good_link_is_none(link):
    assert list(dead(GUIDE, [link])) == []


@pytest.mark.parametrize("path", TAUGHT, ids=lambda path: path.stem)
def test_a_lesson_links_to_its_page_and_to_the_glossary(path):
    last = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown"][-1]
    links = Page(last).links
    pages = [link for link in links if link.startswith("summaries.md")]
    assert "glossary.md" in links
    assert len(pages) == 1
    if path in LESSONS:
        name = pages[0].partition("#")[2].replace("-", " ")
        page = re.search(rf"^## {name}$.*?(?=^## |\Z)", markdown(SUMMARIES), re.DOTALL | re.MULTILINE)
        assert f"]({path.name})" in page.group()


@pytest.mark.browser
@pytest.mark.parametrize(
    ("lesson", "link", "text", "heading"),
    [
        ("06_caching.ipynb", "On one page", SUMMARIES, "caching"),
        ("02_early_stopping.ipynb", "best weights", GLOSSARY, "best weights"),
    ],
)
def test_in_jupyterlab_a_lesson_s_link_opens_its_text_at_its_heading(page, smoke_server, lesson, link, text, heading):
    for path in (*TEXTS, *LESSONS):
        shutil.copy(path, smoke_server.root)
    frontends.open_notebook(page, smoke_server, lesson)
    page.get_by_role("link", name=link, exact=True).click()
    preview = page.locator(".jp-MarkdownViewer")
    expect(preview.get_by_role("heading", name=heading, exact=True)).to_be_in_viewport()
    title = Page(markdown(text)).headings[0]
    expect(preview.get_by_role("heading", name=title, exact=True)).not_to_be_in_viewport()
    end_kernels(smoke_server)


# The guide beside the lessons


def stops(text):
    """The lines of a notebook at which the room waits."""
    return [line for line in text.splitlines() if line.startswith("**STOP")]


def without_a_place(lines, text):
    """STOP lines that a text does not quote in their order, as ``> **STOP ...``, with words of its own after each."""
    parts = re.split(r"^> (\*\*STOP.*)$", text, flags=re.MULTILINE)
    for line, quote, answer in itertools.zip_longest(lines, parts[1::2], parts[2::2], fillvalue=""):
        beginning = quote.removesuffix("…").rstrip()
        known = line.startswith(beginning) and len(beginning) >= min(SHORTEST_QUOTE, len(line))
        if not known or not beginning or len(answer.split("\n**")[0].split()) < 15:
            yield line or quote


@pytest.mark.parametrize("path", TAUGHT, ids=lambda path: path.stem)
def test_every_stop_has_its_place_in_the_guide(path):
    assert stops(markdown(path)), "nothing was read"
    assert list(without_a_place(stops(markdown(path)), section(path))) == []


WORDS = "\n\n" + "Some words on what to say here. " * 3 + "\n\n"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "> **STOP here.** Why is it so, and since when?\n\n**The next part.**" + WORDS,
        "> **STOP" + WORDS,
        "> **STOP here.** Why was it so?" + WORDS,
        "> **STOP here.** Why is it so, and since when?" + WORDS + "> **STOP here.** One that is gone." + WORDS,
    ],
    ids=["none", "no answer", "too short", "changed", "one more"],
)
def test_a_stop_without_its_place_is_found(text):
    assert list(without_a_place(["**STOP here.** Why is it so, and since when?"], text))


@pytest.mark.parametrize("quote", ["**STOP here.** Why is it so, and since when?", "**STOP here.** Why is it so …"])
def test_a_quoted_beginning_is_a_place(quote):
    assert list(without_a_place(["**STOP here.** Why is it so, and since when?"], f"> {quote}{WORDS}")) == []


@pytest.mark.parametrize("path", TAUGHT, ids=lambda path: path.stem)
def test_the_minutes_of_a_lesson_go_by_its_sections_and_add_up(path):
    ((heading, rows),) = tables(section(path))
    assert heading == ["section", "short", "long"]
    named = [name for row in rows[:-1] for name in row[0].split(" + ")]
    assert named == re.findall(r"^## (.*)$", markdown(path), re.MULTILINE)
    for column in (1, 2):
        assert sum(int(row[column]) for row in rows[:-1]) == total(rows[-1][column])
    card = int(re.search(r"\*\*Minutes\*\* \| (\d+) \|", markdown(path)).group(1))
    assert card <= total(rows[-1][1]) < total(rows[-1][2])


def test_the_guide_has_a_short_plan_and_a_long_one():
    short, *long = plans()
    assert len(long) == 2
    assert [total(rows[-1][1]) for rows in long] == [420, 420]
    taught = [path.name for rows in long for row in rows for path in TAUGHT if f"]({path.name})" in row[2]]
    assert sorted(taught) == [path.name for path in TAUGHT]
    assert total(short[-1][1]) < 240


@pytest.mark.parametrize("number", range(3))
def test_the_minutes_of_a_plan_add_up(number):
    *rows, end = plans()[number]
    assert sum(int(minutes) for _, minutes, _ in rows) == total(end[1])
    clock = [60 * int(hour) + int(minute) for hour, minute in (row[0].split(":") for row in (*rows, end))]
    assert [after - before for before, after in itertools.pairwise(clock)] == [int(row[1]) for row in rows]


@pytest.mark.parametrize("number", range(3))
def test_a_plan_gives_a_lesson_the_minutes_that_its_sections_take(number):
    column = 1 if number == 0 else 2
    for _, minutes, what in plans()[number][:-1]:
        for path in TAUGHT:
            if f"]({path.name})" in what:
                ((_, rows),) = tables(section(path))
                assert int(minutes) == total(rows[-1][column]), path.name


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_the_guide_discusses_every_exercise(path):
    code = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code")
    asked = re.findall(r"^quiz\.(\w+)\.check", code, re.MULTILINE)
    assert asked
    assert re.findall(r"^- `(\w+)`: ", section(path), re.MULTILINE) == asked


# The glossary and the class board in the lessons


def prose(text):
    """A text in which a term can be linked: without headings, STOP lines, code that stands by itself and bold type."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"^(#|\*\*STOP).*$", "", text, flags=re.MULTILINE).replace("**", "")


def unexplained(text):
    """What is wrong with the links of a lesson's text to the terms of the glossary."""
    text = prose(text)
    links = list(re.finditer(r"\[([^\]]+)\]\(glossary\.md#[^)]+\)", text))
    if not 3 <= len(links) <= 6:
        yield f"{len(links)} terms are linked, and not three to six"
    for link in links:
        term, before = link.group(1), re.sub(r"\]\([^)]*\)", "]", text[: link.start()])
        if re.search(rf"(?<!\w){re.escape(term)}(?!\w)", before, re.IGNORECASE):
            yield f"{term} stands before its link"


@pytest.mark.parametrize("path", TAUGHT, ids=lambda path: path.stem)
def test_a_lesson_links_a_few_terms_to_the_glossary_where_they_come_first(path):
    assert list(unexplained(markdown(path))) == []


THREE = "".join(f"[{term}](glossary.md#{term}) " for term in ("batch", "epoch", "step"))


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        (THREE, False),
        ("# A step\n\n**STOP here** for a batch.\n\n```\nstep\n```\n\nTwo *steps*. " + THREE, False),
        ("[batch](glossary.md#batch) [epoch](glossary.md#epoch)", True),
        (THREE * 3, True),
        ("A **step** is timed. " + THREE, True),
        ("[step](summaries.md#caching) " + THREE, True),
    ],
    ids=["good", "not in prose", "too few", "too many", "late", "late, in a link"],
)
def test_a_term_that_is_not_linked_at_first_is_found(text, wrong):
    assert bool(list(unexplained(text))) == wrong


def ways_to_the_board(cells):
    """The lines on the class board between a lesson's verdict and its next section, and what they should name.

    Of each line, the result and the prediction that it shares, or None; then what the lesson itself calls the two.
    """
    scored = re.compile(r"^sk\.score_prediction\((\w+), (\w+)\)", re.MULTILINE)
    shown = [(at, scored.search(cell.source)) for at, cell in enumerate(cells)]
    ((at, names),) = [(at, found) for at, found in shown if found and cells[at].cell_type == "code"]
    text = "\n\n".join(cell.source for cell in cells[at + 1 :] if cell.cell_type == "markdown")
    text = re.split(r"^## ", text, maxsplit=1, flags=re.MULTILINE)[0]
    lines = [line for line in text.splitlines() if "](board.ipynb)" in line]
    calls = [re.search(r"`sk\.share\((\w+), name=\"[^\"]+\", prediction=(\w+)\)`", line) for line in lines]
    return [call and call.groups() for call in calls], names.groups()[::-1]


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_below_its_verdict_a_lesson_says_how_to_put_it_on_the_class_board(path):
    said, names = ways_to_the_board(nbformat.read(path, as_version=4).cells)
    assert said == [names]


BOARD = '[board](board.ipynb) `sk.share(result, name="Ada", prediction=guess)`'


@pytest.mark.parametrize(
    "text",
    [
        "Words.",
        BOARD.replace("guess", "prediction"),
        BOARD.replace("result", "pair"),
        BOARD.replace("board.ipynb", "guide.md"),
        f"## Make it lose\n\n{BOARD}",
    ],
    ids=["none", "another prediction", "another result", "no link", "elsewhere"],
)
def test_a_verdict_without_its_way_to_the_board_is_found(text):
    code = nbformat.v4.new_code_cell("sk.score_prediction(guess, result)")
    said, names = ways_to_the_board([code, nbformat.v4.new_markdown_cell(f"Words.\n\n{BOARD}\n\n---\n**STOP here.**")])
    assert said == [names] == [("result", "guess")]
    said, names = ways_to_the_board([code, nbformat.v4.new_markdown_cell(text)])
    assert said != [names]


# Summaries and glossary


def test_every_lesson_has_its_page_and_each_page_its_end():
    pages = re.split(r"\n---\n\n<div style=\"page-break-after: always\"></div>\n", markdown(SUMMARIES))[1:]
    assert [re.search(r"\]\((\d\d_\w+\.ipynb)\)\s*$", page).group(1) for page in pages] == [p.name for p in LESSONS]
    for page in pages:
        for part in ("The question", "The idea", "The lines", "Use it", "Do not", "It costs", "Find out here"):
            assert f"**{part}" in page, part
        assert len(page.split()) < 420, "this does not fit on a page"


def test_the_guide_s_line_makes_a_page_to_print_of_the_summaries(tmp_path):
    (line,) = re.findall(r'^ +\.venv/bin/python -c "(import mistune.*)"$', markdown(GUIDE), re.MULTILINE)
    (tmp_path / "notebooks").mkdir()
    shutil.copy(SUMMARIES, tmp_path / "notebooks")
    subprocess.run([sys.executable, "-c", line], cwd=tmp_path, check=True)
    made = (tmp_path / "summaries.html").read_text(encoding="utf-8")
    assert made.startswith("<meta charset=utf-8>")
    assert made.count('<div style="page-break-after: always"></div>') == len(LESSONS)
    assert made.count("<h2>") == len(LESSONS)


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_code_that_a_text_shows_is_code_and_its_recipes_exist(path):
    text = markdown(path)
    for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        ast.parse(code)
    for call in re.findall(r"sk\.(Recipe\([^)]*\))", text.replace("cache_images=N", "cache_images=9")):
        assert isinstance(eval(call, {"Recipe": sk.Recipe}), sk.Recipe)


def test_the_terms_of_the_glossary_are_in_order_and_in_the_lessons_that_they_name():
    terms = re.findall(r"^## (.*?)\n\n(.*?)(?=^## |\Z)", markdown(GLOSSARY), re.DOTALL | re.MULTILINE)
    names = [plain(name) for name, _ in terms]
    assert len(names) > 80
    assert names == sorted(set(names))
    for name, entry in terms:
        lessons = re.findall(r"\]\((\d\d_\w+\.ipynb)\)", entry.partition("Lessons: ")[2])
        assert lessons, name
        for lesson in lessons:
            assert plain(name) in plain((FOLDER / lesson).read_text(encoding="utf-8")), f"{name} in {lesson}"
        assert on_github(name) == in_jupyterlab(name), f"a link to {name} would work in one of the two only"


def plain(text):
    return re.sub(r"[_\-\s]+", " ", text).lower()


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_no_text_types_an_outcome(path):
    text = re.sub(r"```.*?```|`[^`]*`|^\|[^\n]*$", "", markdown(path), flags=re.DOTALL | re.MULTILINE)
    assert len(text) > 2000
    seen = (
        ["1 GB", "2 GB"] if path == GUIDE else []
    )  # main memory to plan a shared machine with, and it says where from
    assert outcomes(text) == seen
