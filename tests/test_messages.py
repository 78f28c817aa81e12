"""English or French: the table is whole, everything that is shown is said by it, and nothing that is kept is."""

import ast
import dataclasses
import html
import json
import math
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from matplotlib.text import Text
from speedkit.locale.french import KEPT, SAID

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
from speedkit.meter import _not_finite
from speedkit.recipe import TITLES, Recipe
from speedkit.run import Progress, Run
from speedkit.support import messages
from speedkit.support.errors import NotFinite
from speedkit.support.messages import (
    LANGUAGES,
    SPACE,
    english,
    fields,
    language,
    plural,
    say,
    translate,
    typeset,
)
from speedkit.support.settings import language_of
from speedkit.support.units import number, percent

PACKAGE = Path(speedkit.__file__).parent
PLACES = {"say": slice(0, 1), "plural": slice(1, 3), "english": slice(0, 1), "translate": slice(0, 1)}
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


@pytest.fixture
def masked(monkeypatch):
    """A language in which every letter is a "ж": what is still Latin on the page was not said, or is no word."""

    def mask(text):
        return "".join(
            re.sub(r"(<[^>]+>)|[^\W\d_]", lambda found: found[1] or "ж", piece) + (f"{{{name}}}" if name else "")
            for piece, name in messages.pieces(text)
        )

    for name in ("SAID", "KEPT"):
        monkeypatch.setattr(messages, name, {key: mask(key) for key in getattr(messages, name)})
    forget()
    language("fr")
    yield
    language("en")
    monkeypatch.undo()
    forget()


def forget():
    for kept in (messages._typeset, messages._patterns, messages._in_french):
        kept.cache_clear()


# The table


def literals(node):
    """The texts that an argument can be, None where it is not written out."""
    if isinstance(node, ast.IfExp):
        texts = literals(node.body), literals(node.orelse)
        return None if None in texts else [*texts[0], *texts[1]]
    return [node.value] if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def calls():
    """(function, texts or None, where) of every call of a function of :mod:`speedkit.words` in the package."""
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.name in ("messages.py", "french.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in PLACES:
                for argument in node.args[PLACES[node.func.id]]:
                    yield node.func.id, literals(argument), f"{path.name}:{node.lineno}", node


USED = {name: {text for found, texts, *_ in calls() if found == name for text in texts or ()} for name in PLACES}
TABLES = {*TITLES.values(), *(metric.title for metric in METRICS.values()), *STATUSES, *CHOICES}
TABLES |= {field.metadata["help"] for field in dataclasses.fields(Recipe)}
TABLES |= {claim.sentence for claims in CLAIMS.values() for claim in claims}


def test_only_what_is_written_out_is_said_and_only_the_rest_is_retold():
    """Else a sentence could escape the tests of this file."""
    hidden = [where for function, texts, where, _ in calls() if texts is None and function != "translate"]
    assert hidden == []


def test_every_sentence_has_its_french():
    assert (USED["say"] | USED["plural"]) - SAID.keys() - KEPT.keys() == set()
    assert (USED["english"] | USED["translate"] | TABLES) - KEPT.keys() == set()


def test_no_french_is_left_over():
    assert SAID.keys() - USED["say"] - USED["plural"] == set()
    assert KEPT.keys() - USED["english"] - USED["translate"] - TABLES == set()
    assert SAID.keys() & KEPT.keys() == set()


@pytest.mark.parametrize("table", [SAID, KEPT], ids=["said", "kept"])
def test_the_french_has_the_same_placeholders(table):
    for sentence, text in table.items():
        assert Counter(fields(sentence)) == Counter(fields(text)), sentence
        assert all(count == 1 for count in Counter(fields(sentence)).values()), (
            sentence
        )  # each is one group of a pattern


def test_every_placeholder_is_given():
    """Where a call names its values, they are those of its sentences."""
    for function, texts, where, call in calls():
        named = {keyword.arg for keyword in call.keywords}
        if None in named or function == "translate":
            continue
        expected = {name for text in texts for name in fields(text)} - ({"n"} if function == "plural" else set())
        assert named == expected or (function == "plural" and named >= expected), where


def test_the_french_is_written_as_french_is():
    for text in messages._typeset().values():
        assert not re.search(r"[^\s(«:]  ?[:;!?%»]|« ", text.replace(SPACE, "~")), text
        assert not re.search(r"(?<![\s~(<&]):(?![\w/])|\w[;?!»%](?!\w)", text.replace("SPEEDKIT_SMOKE", "")), text
        assert "..." not in text.replace("folder=...", ""), text
        assert not re.search(r"\w'\w", text), text


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
    for code in LANGUAGES:
        language(code)
        said[code] = say("{low} to {high}", low="0.5", high="{0.6}")
    assert said == {"en": "0.5 to {0.6}", "fr": "0.5 à {0.6}"}


def test_what_the_table_lacks_is_said_in_english(french):
    assert say("An {adjective} sentence.", adjective="unknown") == "An unknown sentence."
    assert translate("Some learner's own words: 12 of 13 pairs.") == "Some learner's own words: 12 of 13 pairs."


@pytest.mark.parametrize(("n", "en", "fr"), [(0, "0 machines", "0 machine"), (1, "1 machine", "1 machine")])
def test_plurals(n, en, fr):
    assert plural(n, "{n} machine", "{n} machines") == en
    language("fr")
    assert plural(n, "{n} machine", "{n} machines") == fr
    assert plural(1200, "{n} machine", "{n} machines") == "1\N{NARROW NO-BREAK SPACE}200 machines"


def test_thousands_are_never_a_comma_in_french():
    assert (number(12345.6), percent(0.123)) == ("12,346", "12.3%")
    language("fr")
    assert (number(12345.6), percent(0.123)) == ("12\N{NARROW NO-BREAK SPACE}346", f"12.3{SPACE}%")


def test_a_kept_sentence_is_recognised_with_its_figures_and_what_is_kept_inside_it():
    loss = str(_not_finite(math.nan, 7))
    kept = english("pair {pair} of {pairs}, {arm}: {error}", pair=2, pairs=5, arm="variant", error=loss)
    assert translate(kept) == kept
    language("fr")
    assert translate(kept) == typeset(
        "paire 2 sur 5, variante : La perte est devenue nan au pas 7 : baissez le taux d'apprentissage, ou choisissez "
        "une précision de plus grande étendue."
    )
    assert translate(english("{name} is missing", name="'a is unknown'")) == "'a is unknown' manque"


def test_in_a_text_too_long_to_be_the_kits_nothing_is_looked_for(french, monkeypatch):
    monkeypatch.setattr(messages, "_in_french", lambda sentence: pytest.fail("it was looked into"))
    long = "pair 1 of 2, " * messages.LONGEST
    assert translate(long) == long


def test_every_kept_sentence_is_recognised_as_itself(french):
    for sentence, text in KEPT.items():
        values = {name: str(10 + i) for i, name in enumerate(fields(sentence))}
        assert translate(english(sentence, **values)) == typeset(text).format(**values), sentence


def test_a_sentence_costs_next_to_nothing(french):
    """No file is read and nothing is searched: it is one look into a dict."""
    say("{low} to {high}", low=1, high=2)
    code = say.__code__
    assert set(code.co_names) <= {"_said", "get", "format"}


# What is shown

UNITS = {"ms", "MiB", "GiB", "KiB", "min", "UTC", "CPU", "GPU", "NVIDIA", "µs", "J", "s", "images", "MB"}
CODE = {field.name for field in dataclasses.fields(Recipe)} | {"off", "ram", "sqlite", "fp32", "bf16", "device", "runs"}
CODE |= {"SPEEDKIT_BOARD", "SPEEDKIT_SMOKE", "SPEEDKIT_TURNS", "None", "True", "False", "sgd", "small"}


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
            english("It waited {time} for its turn among the comparisons on this machine.", time="3 s"),
            english("The disk cache was filled before the first counted run: it is compared warm."),
        ]
        assert left(shown_of(comparison), "it broke") == []
        texts = [text.get_text() for text in comparison_figure.figure(comparison).figure.findobj(Text)]
        assert left("\n".join(texts)) == []


def test_nothing_english_is_left_while_a_comparison_is_made(masked, capsys):
    def one_step(recipe, run):
        with run.recording():
            run.machine = {"device": "cpu"}
            run.note(english("{name} has no bf16 arithmetic: it is emulated.", name="77"))
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
    names = [field.name for field in dataclasses.fields(Recipe) if field.name in TITLES]
    panel = Panel(quick, settings=[name for name in names if name not in quick.switches()])
    assert left(widgets_of(panel.box), "EPYC", *name_of_this_machine()) == []
    run = panel.run(precision="bf16")
    assert run.status == "finished"
    panel._progress = Progress(english("images evaluated"), 5, 10)
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
            sentences += map(translate, machine.check(Recipe(precision="bf16", workers=here.cores + 1)))
            sentences += map(translate, machine.check(Recipe(workers=1, cache="device")))
    neighbours = OtherWork(Recipe(device="cpu"))
    for count in (1, 2):
        neighbours.runs = count
        sentences.append(translate(neighbours.note()))
    assert all(sentences)
    assert left("\n".join(sentences), "TF32", "fp16", "tensor", "torch", "speedkit") == []


# What is kept


def in_both(make):
    """What ``make()`` gives in English and in French."""
    for code in LANGUAGES:
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
    run.note(english("{name} has no bf16 arithmetic: it is emulated.", name="A chip"))
    with pytest.raises(KeyboardInterrupt), run.recording():
        raise KeyboardInterrupt
    kept = json.loads(run.save(tmp_path / "run.json").read_text(encoding="utf-8"))
    assert (kept["status"], kept["reason"]) == ("stopped", "stopped by hand")
    assert kept["notes"] == ["A chip has no bf16 arithmetic: it is emulated."]
    loaded = Run.load(tmp_path / "run.json")
    assert "A chip ne calcule pas en bf16" in repr(loaded)
    assert "arrêté" in loaded._repr_html_()
    assert loaded.summary().keys() == {
        *("run", "time", "a step", "throughput", "peak memory of the processes", "accuracy", "where the time goes"),
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
    for code, name in zip(LANGUAGES, ("Ada", "Émilie"), strict=True):
        language(code)
        sentences.append(
            str(share(compared(pairs=5 if name == "Ada" else 3), name, folder, prediction=predict("cache", step_s=2)))
        )
    assert sentences == [
        "On the board as Ada: cache off → ram, with 1 prediction beside it.",
        typeset("Au tableau, sous le nom de Émilie : cache off → ram, avec 1 prédiction à côté."),
    ]
    contents = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json")]
    assert {text for kept in contents for row in kept["rows"] for text in (row["verdict"], row["title"])} <= {
        *(row.verdict for row in compared().rows),
        *(row.title for row in (*compared().rows, *compared(pairs=3).rows)),
        "too few pairs to judge",
    }
    for code in LANGUAGES:
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
    assert files.problems == {"broken.json": "it does not say format 1, kind board"}
    board = Board(tmp_path)
    assert "n’annonce pas format 1" in board.skipped.value
    board.stop()


@pytest.mark.parametrize("code", LANGUAGES)
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
    with pytest.raises(ValueError, match="batch_size='aucun' is not allowed"):
        panel.read()
    assert [label for label, _ in panel.controls["augment"].options] == ["non", "légère", "forte"]
    assert [value for _, value in panel.controls["augment"].options] == ["off", "light", "heavy"]


def test_the_terminal_speaks_english(quick, tmp_path, capsys, french):
    assert main(["--subset", "64", "--batch-size", "16", "--epochs", "1", "--out", str(tmp_path)]) == 0
    assert "where the time goes: " in capsys.readouterr().out


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
    assert said == typeset("batch_size=0 n'est pas permis : donnez un nombre entier de 1 à 65536.")
    with pytest.raises(ValueError, match="is not allowed: give a whole number"):  # for whoever programs, as it was
        quick.but(batch_size=0)
