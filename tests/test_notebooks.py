"""What the notebooks say, read as text: no outcome is typed, every link leads somewhere. nbmake runs them."""

import io
import re
import tokenize
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).resolve().parent.parent / "notebooks").glob("*.ipynb"))
LESSONS = [path for path in NOTEBOOKS if re.match(r"0[1-9]", path.name)]

UNITS = (
    r"%|‰|×|x\b|per ?cent\b|times\b|-?fold\b|points?\b|[num]?s\b|min\b|(?:milli|micro)?seconds?\b|minutes?\b|hours?\b"
    r"|[kMGT]i?B\b|bytes?\b|[JW]\b|joules?\b|images/s|images (?:a|per) second"
)
FIGURE = re.compile(rf"(?<![\w.])\d[\d.,]*\s*(?:{UNITS})", re.IGNORECASE)
MEASURED = re.compile(
    r"\b(?:you (?:saw|see|have seen)|we (?:saw|measured)|was|were|ran|took|became|turned out|proved)\b[^.?!|\n]*"
    r"\b(?:twice|half|faster|slower|quicker|more accurate|less accurate|no difference)\b[^.?!|\n]*[.!|\n]",
    re.IGNORECASE,
)
PICTURE_SIZE = re.compile(r"\d+ × \d+")


def prose(notebook):
    """The texts a learner reads that nobody computed: markdown without code and sources, and comments in code."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            text = re.sub(r"```.*?```|`[^`]*`", "", cell.source, flags=re.DOTALL)
            yield re.sub(r"\*\*Sources\.?\*\*.*?(\n\n|$)", "", text, flags=re.DOTALL)
        else:
            tokens = tokenize.generate_tokens(io.StringIO(cell.source).readline)
            yield from (token.string for token in tokens if token.type == tokenize.COMMENT)


def outcomes(text):
    """What in a text looks like a measured result that somebody typed."""
    text = PICTURE_SIZE.sub("", text)
    return [found.group() for pattern in (FIGURE, MEASURED) for found in pattern.finditer(text)]


@pytest.mark.parametrize(
    "text",
    [
        "With the cache an epoch takes 1.3 s.",
        "It is 12 times faster here.",
        "Memory falls by 30 %.",
        "bf16 gains a 1.5x on this step.",
        "You lose 0.7 points.",
        "It reads 7,500 images/s.",
        "The second run was much faster.",
        "As you saw, two workers ran slower than none.",
        "There was no difference.",
    ],
)
def test_a_typed_outcome_is_found(text):
    assert outcomes(text)


@pytest.mark.parametrize(
    "text",
    [
        "Which of the two was faster?",
        "Pictures of 224 × 224 pixels.",
        "| **Minutes** | 30 |",
        "In 2018 it had 3 layers.",
    ],
)
def test_a_question_or_a_size_is_none(text):
    assert not outcomes(text)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_notebook_types_an_outcome(path):
    notebook = nbformat.read(path, as_version=4)
    texts = list(prose(notebook))
    assert any(len(text) > 200 for text in texts), "nothing was read"
    assert [found for text in texts for found in outcomes(text)] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_link_to_a_file_leads_somewhere(path):
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown":
            for target in re.findall(r"\]\(([^)#]+)", cell.source):
                assert target.startswith("https://") or (path.parent / target).exists(), target


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_has_the_parts_of_its_anatomy(path):
    notebook = nbformat.read(path, as_version=4)
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    words = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    lesson = f"from speedkit.lessons.{path.stem.partition('_')[2]} import lesson"
    assert code[0].splitlines() == ["import speedkit as sk", lesson, "", "sk.machine()"]
    for part in ("sk.predict(", "sk.Panel(", "panel.run(", "compare(", "sk.exercises(", ".check("):
        assert any(part in cell for cell in code), part
    for heading in ("**The question.**", "STOP here", "## Exercises", "## Takeaways", "**Sources.**"):
        assert heading in words, heading
    assert "lose" in words
