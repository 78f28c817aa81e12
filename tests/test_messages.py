"""English or French: every message has its French, what is shown is a message, and what is stored is English."""

import ast
import dataclasses
import gettext
import html
import io
import json
import math
import os
import pickle
import re
import shutil
import string
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from babel.messages.catalog import Catalog
from babel.messages.pofile import read_po, write_po
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.text import Text

import speedkit
from speedkit import hardware
from speedkit.__main__ import main
from speedkit.classroom.board.results import Folder, share
from speedkit.classroom.board.widget import Board, Sharing
from speedkit.classroom.check import capacity
from speedkit.classroom.guesses import score
from speedkit.classroom.prediction import Prediction, predict, score_prediction
from speedkit.comparison.metrics import CLAIMS, DIRECTIONS, METRICS
from speedkit.comparison.result import ARMS, Comparison, RunResult
from speedkit.lab import chart, comparison_figure, queue
from speedkit.lab.compare import compare
from speedkit.lab.other_work import OtherWork
from speedkit.lab.panel import Panel
from speedkit.lab.tables import table_of_runs, table_of_timings
from speedkit.recipe import TITLES, Recipe
from speedkit.run import Run
from speedkit.support import messages
from speedkit.support.errors import CannotRun, NotFinite
from speedkit.support.messages import (
    LOCALE,
    N_,
    Message,
    _,
    language,
    languages,
    message_of,
    ngettext,
    plural_message,
    whole,
)
from speedkit.support.units import number, percent
from speedkit.support.variables import language_of
from speedkit.tasks import Progress

PACKAGE = Path(speedkit.__file__).parent
CATALOG = read_po(io.BytesIO((LOCALE / "fr.po").read_bytes()), locale="fr", abort_invalid=True)
KEYWORDS = ("_", "N_", "ngettext:1,2", "Message", "plural_message:1,2")  # of pybabel extract
SPACE = "\N{NO-BREAK SPACE}"
RAM = Recipe(data="sqlite", subset=960, cache="ram", device="cpu")
STATUSES = ("new", "running", "finished", "stopped", "failed")
CHOICES = ("off", "light", "heavy", "disk", "ram", "device")


@pytest.fixture(autouse=True)
def english_again(monkeypatch, tmp_path):
    """Every test begins and ends in English, with a learner's folder of its own."""
    monkeypatch.setenv("SPEEDKIT_RUNS", str(tmp_path / "runs"))
    yield
    language("en")


@pytest.fixture
def french():
    language("fr")


def mask(text):
    """A text with every letter a "ж", but for tags and placeholders."""
    return re.sub(r"(<[^>]+>|\{\w*\})|[^\W\d_]", lambda found: found[1] or "ж", text)


class Masked(gettext.NullTranslations):
    """A language in which every letter is a "ж": what is still Latin on the page is no message or not translated."""

    def gettext(self, message):
        return mask(message) if CATALOG.get(message) else message

    def ngettext(self, one, many, n):
        return self.gettext(one) if n == 1 else mask(many) if CATALOG.get(one) else many


@pytest.fixture
def masked(monkeypatch):
    monkeypatch.setattr(messages, "_read", lambda code: Masked())
    language("fr")
    yield
    monkeypatch.undo()
    language("en")


# The catalog


def extracted(tmp_path):
    """What ``pybabel extract`` finds in the package, as translators would call it."""
    keywords = [part for keyword in KEYWORDS for part in ("-k", keyword)]
    command = [sys.executable, "-m", "babel.messages.frontend", "extract", *keywords, "-o", tmp_path / "found.pot"]
    subprocess.run([*command, PACKAGE], check=True, capture_output=True, timeout=120)
    return read_po(io.BytesIO((tmp_path / "found.pot").read_bytes()))


def ids(catalog):
    return {message.id if isinstance(message.id, str) else message.id[0] for message in catalog if message.id}


def test_every_message_has_its_french_and_no_french_is_left_over(tmp_path):
    found = extracted(tmp_path)
    assert len(found) > 300, "pybabel found next to nothing"
    assert ids(found) - ids(CATALOG) == set()
    assert ids(CATALOG) - ids(found) - {","} == set()
    assert {message.id for message in found if message.pluralizable} == {
        message.id for message in CATALOG if message.pluralizable
    }


def test_only_what_is_written_out_is_a_message():
    """Else a sentence could escape pybabel, and the tests of this file."""
    hidden = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("N_", "ngettext"):
                texts = node.args[: 2 if node.func.id == "ngettext" else 1]
                if not all(isinstance(text, ast.Constant) for text in texts):
                    hidden.append(f"{path.name}:{node.lineno}")
    assert hidden == []


def test_no_name_hides_the_function_that_translates():
    """In a module that imports ``_``, a loop over ``_`` would make it a number."""
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if any(isinstance(node, ast.ImportFrom) and "_" in [name.name for name in node.names] for node in tree.body):
            stored = [
                node.lineno
                for node in ast.walk(tree)
                if isinstance(node, ast.Name) and node.id == "_" and not isinstance(node.ctx, ast.Load)
            ]
            named = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.arg) and node.arg == "_"]
            assert stored + named == [], path.name


def placeholders(text):
    return Counter(name for _text, name, *_rest in string.Formatter().parse(text) if name is not None)


def texts(message):
    """(English, French) of a message, once for each plural form."""
    if not message.pluralizable:
        return [(message.id, message.string)]
    return list(zip(message.id, message.string, strict=True))


def test_the_french_has_the_same_placeholders():
    for message in CATALOG:
        for english, french in texts(message) if message.id else []:
            assert french, english
            assert placeholders(english) == placeholders(french), english
        assert not message.fuzzy, message.id


def test_every_placeholder_is_given():
    """Where a call names its values, they are those of its sentences."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            count = {"_": 1, "Message": 1, "ngettext": 2, "plural_message": 2}.get(node.func.id, 0)
            given = {keyword.arg for keyword in node.keywords}
            said = [text.value for text in node.args[:count] if isinstance(text, ast.Constant)]
            if not said or None in given:
                continue
            expected = set().union(*map(placeholders, said))
            assert given == expected - ({"n"} if count == 2 else set()), f"{path.name}:{node.lineno}"


def test_the_catalog_is_well_formed(tmp_path):
    """As gettext's own tool sees it, where it is installed."""
    if shutil.which("msgfmt"):
        command = ["msgfmt", "--check-header", "--check-domain", "-o", tmp_path / "fr.mo", LOCALE / "fr.po"]
        subprocess.run(command, check=True, capture_output=True)


def test_the_french_is_written_as_french_is():
    for message in CATALOG:
        for _english, text in texts(message) if message.id and message.id != "," else []:
            assert not re.search(r"[^\s(«:]  ?[:;!?%»]|« ", text.replace(SPACE, "~")), text
            assert not re.search(r"(?<![\s~(<&]):(?![\w/])|\w[;?!»%](?!\w)", text.replace("SPEEDKIT_SMOKE", "")), text
            assert "..." not in text.replace("folder=...", ""), text
            assert not re.search(r"\w'\w", text), text


def test_a_third_language_is_one_more_file(tmp_path, monkeypatch):
    catalog = Catalog(locale="de")
    catalog.add(",", ".")
    catalog.add(("{n} step", "{n} steps"), ("{n} Schritt", "{n} Schritte"))
    with open(tmp_path / "de.po", "wb") as file:
        write_po(file, catalog)
    monkeypatch.setattr(messages, "LOCALE", tmp_path)
    assert languages() == ("en", "de")
    language("de")
    assert ngettext("{n} step", "{n} steps", 1200) == "1.200 Schritte"
    assert ngettext("{n} step", "{n} steps", 1) == "1 Schritt"
    assert _("lower") == "lower"  # what is not translated yet is English
    language("en")


# Which language


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, "en"),
        ({"LANG": "fr_FR.UTF-8"}, "fr"),
        ({"LANG": "fr"}, "fr"),
        ({"LANG": "de_CH.UTF-8"}, "en"),
        ({"LANG": "C.UTF-8"}, "en"),
        ({"LANG": "en_GB.UTF-8", "LC_MESSAGES": "fr_CA.UTF-8"}, "fr"),
        ({"LANG": "fr_FR.UTF-8", "LC_ALL": "C"}, "en"),
        ({"LANG": "fr_FR.UTF-8", "LC_ALL": ""}, "fr"),
        ({"LANG": "en_US.UTF-8", "LANGUAGE": "fr:en"}, "fr"),
        ({"LANG": "fr_FR.UTF-8", "LANGUAGE": "en:fr"}, "en"),
        ({"LANG": "C.UTF-8", "LANGUAGE": "fr"}, "en"),  # as gettext has it
        ({"LANG": "en_US.UTF-8", "SPEEDKIT_LANGUAGE": "fr"}, "fr"),
        ({"LANG": "en_US.UTF-8", "SPEEDKIT_LANGUAGE": "FR_be"}, "fr"),
        ({"LANG": "fr_FR.UTF-8", "LC_ALL": "fr_FR", "LANGUAGE": "fr", "SPEEDKIT_LANGUAGE": "en"}, "en"),
        ({"LANG": "fr_FR.UTF-8", "SPEEDKIT_LANGUAGE": ""}, "fr"),
    ],
)
def test_the_environment_is_asked_in_the_order_of_gettext(environment, expected):
    assert language_of(environment) == expected


def test_where_the_environment_says_nothing_the_system_is_asked():
    assert language_of({}, "French_France") == "fr"
    assert language_of({}, "English_United Kingdom") == "en"
    assert language_of({"SPEEDKIT_LANGUAGE": "en"}, "French_France") == "en"


@pytest.mark.parametrize(("name", "value"), [("SPEEDKIT_LANGUAGE", "fr"), ("LC_ALL", "fr_FR.UTF-8")])
def test_a_new_kernel_speaks_it(name, value):
    names = ("SPEEDKIT_LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG", "LANGUAGE")
    environment = {key: kept for key, kept in os.environ.items() if key not in names} | {name: value}
    code = "import speedkit as sk; print(sk.language(), sk.Recipe(workers=2).label)"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "fr 2 processus"


def test_the_language_is_set_and_told():
    assert language() == "en"
    assert language("fr") == language() == "fr"
    assert language("en") == "en"


@pytest.mark.parametrize("wrong", ["de", "French", "", 3, ["fr"]])
def test_another_language_is_refused_and_changes_nothing(wrong, french):
    with pytest.raises(ValueError, match=r"^language\(.*\) is not allowed: give en \| fr\.$"):
        language(wrong)
    assert language() == "fr"


def test_a_sentence_is_said_in_the_language_in_force():
    said = {}
    for code in languages():
        language(code)
        said[code] = _("{low} to {high}", low="0.5", high="{0.6}")
    assert said == {"en": "0.5 to {0.6}", "fr": "0.5 à {0.6}"}


def test_what_the_table_lacks_is_said_in_english(french):
    assert _("An {adjective} sentence.", adjective="unknown") == "An unknown sentence."
    assert _("Some learner's own words: 12 of 13 pairs.") == "Some learner's own words: 12 of 13 pairs."


@pytest.mark.parametrize(("n", "en", "fr"), [(0, "0 learners", "0 élève"), (1, "1 learner", "1 élève")])
def test_plurals(n, en, fr):
    assert ngettext("{n} learner", "{n} learners", n) == en
    language("fr")
    assert ngettext("{n} learner", "{n} learners", n) == fr
    assert ngettext("{n} learner", "{n} learners", 1200) == "1\N{NARROW NO-BREAK SPACE}200 élèves"


def test_thousands_are_never_a_comma_in_french():
    assert (number(12345.6), percent(0.123)) == ("12,346", "12.3%")
    language("fr")
    assert (number(12345.6), percent(0.123)) == ("12\N{NARROW NO-BREAK SPACE}346", f"12.3{SPACE}%")


def test_a_stored_sentence_is_shown_in_any_language_with_its_values_and_the_messages_inside_it():
    loss = message_of(Run(Recipe()).not_finite(7, math.nan))
    stored = Message("pair {pair} of {pairs}, {arm}: {error}", pair=2, pairs=5, arm=Message("variant"), error=loss)
    assert _(stored) == stored == f"pair 2 of 5, variant: {loss}"
    language("fr")
    assert _(stored) == (
        f"paire 2 sur 5, variante{SPACE}: La perte est devenue nan au pas 7{SPACE}: baissez le taux d’apprentissage, "
        "ou choisissez une précision de plus grande étendue."
    )
    assert stored == f"pair 2 of 5, variant: {loss}", "what is stored stays English"


def test_a_value_is_never_translated_even_where_it_is_a_word_of_ours(french):
    assert _("variant") == "variante"
    assert "variant:" in _(Message("{name} has no bf16 arithmetic: it is emulated.", name="variant:"))


@pytest.mark.parametrize("n", [0, 1, 1200])
def test_a_stored_plural(n):
    stored = plural_message("{n} step", "{n} steps", n)
    assert stored == f"{n:,} step{'' if n == 1 else 's'}"
    assert Message.from_json(json.loads(json.dumps(stored.to_json()))).to_json() == stored.to_json()
    language("fr")
    assert _(stored) == f"{whole(n)} pas"


@given(
    st.dictionaries(
        st.sampled_from(["name", "value"]),
        st.one_of(st.text(), st.integers(-(10**9), 10**9), st.floats(allow_nan=False)),
        min_size=2,
    )
)
def test_a_stored_sentence_survives_a_file(values):
    stored = Message("{name}: {value}", **values)
    read = Message.from_json(json.loads(json.dumps(stored.to_json())))
    assert (read, read.msgid, read.values) == (stored, stored.msgid, stored.values)
    assert pickle.loads(pickle.dumps(stored)).to_json() == stored.to_json()


@pytest.mark.parametrize(
    "stored",
    [
        {},
        {"msgid": 3, "values": {}},
        {"msgid": "{name}", "values": []},
        {"msgid": "{name.real}", "values": {"name": "x"}},
        {"msgid": "{0}", "values": {"name": "x"}},
        {"msgid": "{name:>9999999999}", "values": {"name": "x"}},
        {"msgid": "{name!r}", "values": {"name": "x"}},
        {"msgid": "a", "values": {}, "plural": "{n:>9999999999}", "n": 3},
        {"msgid": "a", "values": {}, "more": 1},
        {"msgid": "a", "values": {}, "plural": "b", "n": "3"},
        ["a"],
        7,
        None,
    ],
    ids=repr,
)
def test_a_file_that_holds_no_message_is_refused(stored):
    with pytest.raises(ValueError, match="is not a message that speedkit stores"):
        Message.from_json(stored)


def test_a_message_is_text_for_everybody_else():
    note = Message("{name} has no bf16 arithmetic: it is emulated.", name="A chip")
    assert note == "A chip has no bf16 arithmetic: it is emulated."
    assert note.startswith("A chip")
    assert html.escape(Message("{name} has no bf16 arithmetic: it is emulated.", name="<b>")).startswith("&lt;b&gt;")
    assert str(CannotRun(note)) == note
    assert message_of(CannotRun(note)) is note
    assert message_of(ValueError("said")) == "said"
    assert message_of(ValueError()) == "ValueError"


# What is shown

UNITS = {"ms", "MiB", "GiB", "KiB", "min", "UTC", "CPU", "GPU", "NVIDIA", "µs", "J", "s", "images", "MB"}
CODE = set(Recipe.model_fields) | {"off", "ram", "sqlite", "fp32", "bf16", "device", "runs"}
CODE |= {
    "SPEEDKIT_BOARD",
    "SPEEDKIT_SMOKE",
    "SPEEDKIT_TURNS",
    "None",
    "True",
    "False",
    "sgd",
    "small",
    "text",
    "ratings",
}


def bare(shown):
    """A page without its tags and attributes."""
    return html.unescape(re.sub(r"<style>.*?</style>|<[^>]*>", " ", shown, flags=re.DOTALL))


def left(shown, *known):
    """The words in what is shown that are still English."""
    found = re.findall(r"[A-Za-zµ_][A-Za-zµ_0-9]+", shown)
    return sorted({word for word in found if word not in UNITS | CODE and not any(word in each for each in known)})


def trained(recipe=RAM, status="finished", device="cpu", steps=200, **columns):
    run = Run(recipe)
    run.status, run.machine, run.total_steps = status, {"device": device}, 400
    run.scalars |= {"prepare_s": 0.3, "peak_memory": 2.0**29, "energy_j": 12.0, "test_accuracy": 0.85}
    given = {"wait_s": 0.004, "compute_s": 0.006, "step_s": 0.01, "memory": 2.0**29, "loss": 0.5} | columns
    for i in range(steps):
        run.step(epoch=0, t=float(i), **given)
    run.epoch(steps=steps, t=float(steps), validation_accuracy=0.8, train_accuracy=0.9)
    return run


def compared(ratio=0.5, pairs=5, technique="cache", change=None, values=None, **more):
    base = Recipe(data="sqlite", subset=960)
    more = {"status": "finished", "claims": CLAIMS[technique], "target": 0.75} | more
    comparison = Comparison(base, base.but(**(change or {"cache": "ram"})), **more)
    comparison.machine = {"device": "cpu", "name": "EPYC", "cores": 2, "system": "Linux"}
    for pair, off in enumerate(np.linspace(-0.01, 0.01, pairs)):
        for arm, factor in zip(ARMS, (1.0, ratio * math.exp(off)), strict=True):
            found = {"step_s": 0.01, "wait_s": 0.004, "seconds": 3.0, "reads": 960, "peak_memory": 2.0**29} | (
                values or {}
            )
            found = {name: value * factor for name, value in found.items()} | {
                "validation_accuracy": 0.8 + factor / 100
            }
            found = dict.fromkeys(METRICS, math.nan) | found
            comparison.measured.append(RunResult(pair, arm, pair, found, others_share=0.02))
    return comparison


def comparisons():
    """Comparisons that between them say all that one can say."""
    yield compared()
    yield compared(ratio=1.5)
    yield compared(ratio=0.97)
    yield compared(ratio=1.0, technique="workers", change={"workers": 2})
    yield compared(pairs=3)
    yield compared(pairs=3, smoke=True)
    yield compared(status="stopped", reason="stopped by hand")
    yield compared(status="failed", reason="it broke", target=None)
    yield compared(change={"seed": 0}, technique="cache")
    noisy = compared(ratio=1.0, technique="batchnorm", change={"batchnorm": True})
    for i, each in enumerate(noisy.measured):
        each.values = {name: value * (1 + 0.4 * (i % 3)) for name, value in each.values.items()}
    yield noisy


def shown_of(comparison):
    return "\n".join([repr(comparison), bare(comparison._repr_html_()), *map(str, comparison.judgements)])


def test_nothing_english_is_left_in_a_comparison(masked):
    for comparison in comparisons():
        comparison.notes = [
            Message("It waited {time} for its turn in the queue of this machine.", time="3 s"),
            N_("The disk cache was filled before the first counted run: it is compared warm."),
        ]
        assert left(shown_of(comparison), "it broke") == []
        texts = [text.get_text() for text in comparison_figure.figure(comparison).figure.findobj(Text)]
        assert left("\n".join(texts)) == []


def test_nothing_english_is_left_while_a_comparison_is_made(masked, capsys):
    def one_step(recipe, run):
        with run.recording():
            run.machine = {"device": "cpu"}
            run.note(Message("{name} has no bf16 arithmetic: it is emulated.", name="77"))
            yield run.step(step_s=0.1)
            if recipe.cache == "ram":
                raise NotFinite("99")

    base = Recipe(data="sqlite", subset=960)
    comparison = compare(base, base.but(cache="ram"), 1, train=one_step)
    assert left(capsys.readouterr().out) == []
    assert any("99" in note for note in comparison.notes)
    assert left(repr(comparison)) == []


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("device", ["cpu", "cuda:0"])
def test_nothing_english_is_left_in_a_run_or_its_chart(masked, status, device):
    runs = [trained(), trained(RAM.but(augment="heavy", workers=1, early_stopping=2, batchnorm=True, precision="bf16"))]
    runs.append(trained(status=status, device=device, steps=30, wait_s=math.nan, step_s=0.02))
    runs.append(trained(status=status, device=device, steps=1, loss=math.nan))
    runs.append(trained(steps=200, loss=np.float64(0.5)))
    runs.append(Run(RAM))
    for run in runs:
        shown = [chart.svg(run, runs), chart.text(run, runs), repr(run), run._repr_html_()]
        shown += re.findall(r'aria-label="([^"]*)"', shown[0])
        assert left(bare("\n".join(shown))) == []
        assert left("\n".join(text.get_text() for text in chart.figure(run, runs[:2]).findobj(Text))) == []
    assert left(repr(table_of_runs(*runs)) + repr(table_of_timings(__=1.0, _=2.0))) == []


def test_nothing_english_is_left_in_what_says_where_time_goes(masked):
    for wait_s in (0.0, 0.003, 0.02, math.nan):
        assert left(trained(wait_s=wait_s, step_s=0.01 + wait_s).where_time_goes()) == []


def test_nothing_english_is_left_in_a_panel(masked, quick, monkeypatch):
    monkeypatch.setattr(queue, "others", lambda: queue.OtherProcesses(2, 1))
    names = [name for name in Recipe.model_fields if name in TITLES]
    panel = Panel(quick, settings=[name for name in names if name not in quick.switches()])
    assert left(widgets_of(panel.box), "EPYC", *name_of_this_machine()) == []
    run = panel.run(precision="bf16")
    assert run.status == "finished"
    panel._progress = Progress(N_("samples evaluated"), 5, 10)
    panel._show_progress(run)
    assert left(widgets_of(panel.box), *name_of_this_machine()) == []
    assert left(panel._keepsake["text/plain"]) == []


def name_of_this_machine():
    return re.findall(r"\w+", speedkit.machine("cpu").name)


def widgets_of(box):
    """Every text of a widget and of those in it."""
    found = [bare(box.value)] if isinstance(getattr(box, "value", None), str) and hasattr(box, "placeholder") else []
    found += [str(getattr(box, name)) for name in ("description", "tooltip") if getattr(box, name, None)]
    found += [
        label for label in getattr(box, "_options_labels", ()) if not re.match(r"fp|bf|tf|fashion|jpeg|mlp|res", label)
    ]
    for child in getattr(box, "children", ()):
        found.append(widgets_of(child))
    known = r"fashion-mnist|\bwide\b|\badam\b|\bconstant\b|\bone_cycle\b|RandAugment|data-n"
    return re.sub(known, "", "\n".join(found))


def test_nothing_english_is_left_on_the_board(masked, tmp_path):
    folder = tmp_path / "board"
    folder.mkdir()
    (folder / "77.json").write_text("{")
    for i, comparison in enumerate(comparisons()):
        if comparison.changes:
            comparison.machine |= {"device": ("cpu", "cuda:0", "xpu")[i % 3]}
            guess = Prediction("cache", "step_s")
            guess.guesses = predict("cache", step_s=0.4, case=f"{i}").guesses
            share(comparison, "", folder, prediction=guess)
    board = Board(folder)
    for technique in ("cache", "workers", "batchnorm"):
        for metric in METRICS:
            board.technique.value, board.metric.value = technique, metric
            shown = [repr(board), bare(board.picture.value), bare(board.status.value), bare(board.skipped.value)]
            shown.append(widgets_of(board.box))
            text = re.sub(r"Expecting property name.*?\)", "", "\n".join(shown))
            assert left(text, "JSON", "json", "board", "EPYC", "to_csv", "to_frame") == []
    board.stop()
    assert left(widgets_of(Sharing(folder).box)) == []
    assert left(repr(Board(tmp_path / "away")), "No such file or directory", str(tmp_path / "away")) == []


def test_nothing_english_is_left_in_a_prediction(masked):
    prediction = Prediction("cache", "step_s", "validation_accuracy")
    for form in prediction.forms.values():
        assert left(widgets_of(form.box)) == []
        for direction in DIRECTIONS:
            form.direction.value = direction
            assert left(widgets_of(form.box)) == []
    for value in ("lower", "higher", "same", 0.5, 0.1, 0.9, 2.0):
        guess = predict("cache", step_s=value, case=f"{value}".replace(".", "-"))
        for comparison in comparisons():
            assert left(repr(score_prediction(guess, comparison))) == []
        assert left(repr(guess)) == []
    assert left(score(None, compared()).sentence) == []


def test_nothing_english_is_left_of_the_machine_and_its_neighbours(masked, monkeypatch):
    monkeypatch.setattr(queue.os, "getloadavg", lambda: (99.0, 0, 0), raising=False)
    monkeypatch.setattr(queue.hardware, "cores", lambda: os.cpu_count() or 1)  # all that there are, also in a container
    sentences = [
        queue.others_warning(queue.OtherProcesses(1, 0)),
        queue.others_warning(queue.OtherProcesses(2, 1)),
        queue.load(),
    ]
    sentences += [queue._words([queue.Ticket("", 1e9, 1, "")]), queue._words([queue.Ticket("", 0.0, 1, "")] * 3)]
    here = speedkit.machine("cpu")
    for bf16 in (True, False):
        for more in ({}, {"device": "cuda:0"}, {"device": "cuda:0", "tf32": True, "device_memory": 2**34}):
            machine = dataclasses.replace(here, bf16=bf16, name="77", **more)
            sentences += [repr(machine), bare(machine._repr_html_()), capacity(machine)]
            sentences += map(_, machine.check(Recipe(precision="bf16", workers=here.cores + 1)))
            sentences += map(_, machine.check(Recipe(workers=1, cache="device")))
    neighbours = OtherWork(Recipe(device="cpu"))
    for count in (1, 2):
        neighbours.runs = count
        sentences.append(_(neighbours.note()))
    assert all(sentences)
    assert left("\n".join(sentences), "TF32", "fp16", "tensor", "torch", "speedkit") == []


# What is kept


def in_both(make):
    """What ``make()`` gives in English and in French."""
    for code in languages():
        language(code)
        yield make()
    language("en")


def without_moments(text):
    return re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+(\+00:00)?|[0-9a-f]{16}", "", text)


def test_a_comparison_kept_in_one_language_reads_in_the_other(tmp_path):
    for made in comparisons():
        language("fr")
        shown = shown_of(made)
        made.save(tmp_path / "fr.json")
        language("en")
        loaded = Comparison.load(tmp_path / "fr.json")
        assert loaded.rows == made.rows or repr(loaded.rows) == repr(made.rows)
        assert [each.outcome for each in loaded.judgements] == [each.outcome for each in made.judgements]
        loaded.save(tmp_path / "en.json")
        assert (tmp_path / "en.json").read_bytes() == (tmp_path / "fr.json").read_bytes()
        language("fr")
        assert shown_of(Comparison.load(tmp_path / "en.json")) == shown


def test_a_comparison_and_its_runs_are_made_the_same_in_both_languages(quick):
    def make():
        return compare(quick, quick.but(precision="bf16"), 1, progress=False)

    first, second = in_both(make)
    assert [re.sub(r"\d+", "#", note) for note in first.notes] == [re.sub(r"\d+", "#", note) for note in second.notes]
    assert (first.status, first.reason) == (second.status, second.reason) == ("finished", "")
    assert [row.title for row in first.rows] == [row.title for row in second.rows]
    assert [row.why for row in first.rows] == [row.why for row in second.rows]


def test_a_run_is_kept_in_english(tmp_path, french):
    run = trained(status="running")
    run.note(Message("{name} has no bf16 arithmetic: it is emulated.", name="A chip"))
    with pytest.raises(KeyboardInterrupt), run.recording():
        raise KeyboardInterrupt
    kept = json.loads(run.save(tmp_path / "run.json").read_text(encoding="utf-8"))
    assert (kept["status"], kept["reason"]) == ("stopped", "stopped by hand")
    assert kept["notes"] == [{"msgid": "{name} has no bf16 arithmetic: it is emulated.", "values": {"name": "A chip"}}]
    loaded = Run.load(tmp_path / "run.json")
    assert "A chip ne calcule pas en bf16" in repr(loaded)
    assert "arrêté" in loaded._repr_html_()
    assert loaded.summary().keys() == {
        *(
            "run",
            "memory of one training step, counted",
            "time",
            "time per step",
            "throughput",
            "peak memory of the processes",
            "accuracy",
            "where the time goes",
        ),
        "energy",
    }


def test_a_prediction_is_kept_in_english(tmp_path):
    predict("cache", step_s=0.5, reads="same")
    files = {path.name: without_moments(path.read_text()) for path in tmp_path.glob("runs/predictions/*")}
    for path in tmp_path.glob("runs/predictions/*"):
        path.unlink()
    language("fr")
    prediction = predict("cache", step_s=0.5, reads="same")
    assert files == {path.name: without_moments(path.read_text()) for path in tmp_path.glob("runs/predictions/*")}
    assert str(prediction.guesses["step_s"]) == "baisse, × 0.5"
    assert score(prediction.guesses["step_s"], compared()).points == 2
    language("en")
    assert str(predict("cache", step_s=0.5).guesses["step_s"]) == "lower, × 0.5"


def test_a_learner_who_clicks_in_french_commits_to_what_the_code_compares(french):
    form = Prediction("cache", "step_s").forms["step_s"]
    assert form.direction._options_labels == ("baisse", "stable", "hausse")
    form.direction.value = "lower"
    form.button.click()
    assert form.prediction.guesses["step_s"].direction == "lower"


def test_a_french_and_an_english_learner_share_one_board(tmp_path):
    folder = tmp_path / "board"
    folder.mkdir()
    sentences = []
    for code, name in zip(languages(), ("Ada", "Émilie"), strict=True):
        language(code)
        sentences.append(
            str(share(compared(pairs=5 if name == "Ada" else 3), name, folder, prediction=predict("cache", step_s=2)))
        )
    assert sentences == [
        "On the board as Ada: cache off → ram, with 1 prediction beside it.",
        (f"Au tableau, sous le nom de Émilie{SPACE}: cache off → ram, avec 1 prédiction à côté."),
    ]
    contents = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json")]
    assert {
        str(Message.from_json(text))
        for kept in contents
        for row in kept["rows"]
        for text in (row["verdict"], row["title"])
    } <= {
        *(row.verdict for row in compared().rows),
        *(row.title for row in (*compared().rows, *compared(pairs=3).rows)),
        "too few pairs to judge",
    }
    for code in languages():
        language(code)
        board = Board(folder, "cache", "step_s")
        assert {result.nickname for result in board.results} == {"Ada", "Émilie"}
        assert board.problems == {}
        shown = bare(board.picture.value)
        assert ("time per step (mean)" in shown, "durée d’un pas (moyenne)" in shown) == (code == "en", code == "fr")
        assert ("predicted" in shown, "prédit" in shown) == (code == "en", code == "fr")
        assert ("no verdict" in shown, "pas de verdict" in shown) == (code == "en", code == "fr")
        frame = board.to_frame()
        assert set(frame["verdict"]) <= {"lower", "higher", "no difference detected", "n/a", "too few pairs to judge"}
        board.stop()


def test_the_frames_for_further_work_are_english(french):
    frame = compared().to_frame()
    assert frame["title"][0] == "time per step (mean)"
    assert frame["verdict"][0] == "lower"


def test_skipped_files_are_named_in_the_language_in_force(tmp_path, french):
    (tmp_path / "broken.json").write_text("{}")
    files = Folder(tmp_path)
    files.look()
    assert files.problems == {"broken.json": "it does not say format 1, kind board."}
    board = Board(tmp_path)
    assert "n’annonce pas format 1" in board.skipped.value
    board.stop()


@pytest.mark.parametrize("code", languages())
@pytest.mark.parametrize("loss", [0.00123, 12345.6])
def test_the_words_of_the_figure_stay_on_it(code, loss):
    language(code)
    switches = {"augment": "heavy", "workers": 2, "early_stopping": 3, "batchnorm": True, "precision": "bf16"}
    run = trained(RAM.but(cache="device", **switches), loss=loss)
    run.epochs["validation_accuracy"][-1] = 1.0
    figure = chart.figure(run, [trained(), trained(RAM.but(workers=2))])
    drawing = figure.canvas.get_renderer()
    for text in figure.findobj(Text):
        where = text.get_window_extent(drawing)
        assert not text.get_text() or (where.x0 >= 0 and where.x1 <= figure.bbox.width), text.get_text()


# A switch while something stands


def test_what_is_drawn_after_a_switch_speaks_the_new_language(quick):
    panel = Panel(quick)
    assert "steps" in panel.picture.value
    language("fr")
    panel._draw()
    assert ">pas<" in panel.picture.value
    assert panel.run_button.description == "Run"  # until its cell is run again
    assert Panel(quick).run_button.description == "Lancer"


def test_a_french_panel_reads_what_it_shows(quick, french):
    recipe = quick.but(subset=None, augment="light", cache="disk", batchnorm=True, early_stopping=2)
    panel = Panel(recipe, settings=("subset", "steps", "batch_size"))
    assert panel.controls["subset"].value == "toutes"
    assert panel.read() == recipe
    panel.controls["subset"].value = " all "
    assert panel.read().subset is None
    language("en")  # the panel stands as it was made
    panel.controls["subset"].value = "toutes"
    assert panel.read().subset is None
    panel.controls["batch_size"].value = "aucun"
    with pytest.raises(ValueError, match="Batch size: “aucun” is not possible"):
        panel.read()
    assert [label for label, _ in panel.controls["augment"].options] == ["non", "légère", "forte"]
    assert [value for _, value in panel.controls["augment"].options] == ["off", "light", "heavy"]


def test_the_terminal_speaks_english(quick, tmp_path, capsys, french):
    assert main(["--subset", "64", "--batch-size", "16", "--epochs", "1", "--out", str(tmp_path)]) == 0
    assert "where the time goes  " in capsys.readouterr().out


def test_the_machine_is_told_in_the_language_in_force_though_it_is_looked_at_once():
    hardware.machine("cpu")
    assert "core" in hardware.machine("cpu").sentence()
    language("fr")
    assert "cœur" in hardware.machine("cpu").sentence()


def test_a_panel_says_in_french_what_is_wrong_with_a_value(quick, french):
    panel = Panel(quick, settings=("batch_size",))
    panel.controls["batch_size"].value = "0"
    panel.start()
    said = html.unescape(bare(panel.problem.value)).strip()
    words = "Taille de lot~: «~0~» n’est pas possible. Entrez un nombre entier de 1 à 65\N{NARROW NO-BREAK SPACE}536."
    assert said == words.replace("~", "\N{NO-BREAK SPACE}")
    with pytest.raises(ValueError, match="is not allowed: give a whole number"):  # for whoever programs, as it was
        quick.but(batch_size=0)
