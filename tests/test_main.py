"""The same recipes from a terminal."""

import json
import os
import subprocess
import sys

import pytest
import torch

from speedkit import __main__
from speedkit.recipe import Recipe
from speedkit.run import Run

FEW = ["--subset", "64", "--batch-size", "16", "--epochs", "1", "--device", "cpu"]


@pytest.fixture
def main(monkeypatch, quick, tmp_path, capsys):
    """Calls the program with arguments; gives its exit status, what it printed, and the runs that it kept."""
    monkeypatch.delenv("WORLD_SIZE", raising=False)

    def call(*arguments):
        try:
            code = __main__.main([*arguments, "--out", str(tmp_path / "runs")])
        except SystemExit as end:
            code = end.code
        printed = capsys.readouterr()
        return code, printed.out, printed.err, sorted((tmp_path / "runs").glob("*"))

    return call


def test_every_field_of_the_recipe_is_an_option_and_what_is_not_typed_is_left_to_the_recipe():
    options = vars(__main__.parser().parse_args([]))
    assert options.pop("out").name == "runs"
    assert options == {}  # so that the defaults of the task count
    known = {option for action in __main__.parser()._actions for option in action.option_strings}
    assert {f"--{name.replace('_', '-')}" for name in Recipe.model_fields} <= known


def test_help_says_what_each_field_is(main):
    code, out, _, _ = main("--help")
    assert code == 0
    words = " ".join(out.split())
    for name, field in Recipe.model_fields.items():
        assert f"--{name.replace('_', '-')} " in words
        assert field.description in words
    for kind in ("fp32|tf32|fp16|bf16", "on|off", "WHOLE", "NUMBER", "TEXT"):
        assert kind in words
    assert "(default: small; text: transformer; ratings: embedding)" in words


@pytest.mark.parametrize(
    ("arguments", "changes"),
    [
        (["--precision", "bf16"], {"precision": "bf16"}),
        (["--early-stopping", "3"], {"early_stopping": 3}),
        (["--early-stopping", "off"], {"early_stopping": None}),
        (["--batchnorm", "on"], {"batchnorm": True}),
        (["--batchnorm", "false"], {"batchnorm": False}),
        (["--learning-rate", "1e-3"], {"learning_rate": 1e-3}),
        (["--subset", "all"], {"subset": None}),
        (["--data", "folder:/a b"], {"data": "folder:/a b"}),
        (["--data", "text", "--epochs", "1"], {"data": "text", "epochs": 1}),
    ],
)
def test_what_is_typed_becomes_the_recipe(arguments, changes):
    options = vars(__main__.parser().parse_args(arguments))
    options.pop("out")
    assert Recipe(**options) == Recipe(**changes)


def test_a_run_is_kept_as_json(main):
    code, out, err, kept = main(*FEW, "--cache", "ram", "--seed", "7")
    assert code == 0, err
    assert [path.suffix for path in kept] == [".json"]
    run = Run.load(kept[0])
    assert run.recipe == Recipe(subset=64, batch_size=16, epochs=1, device="cpu", cache="ram", seed=7)
    assert (run.status, run.count, len(run.epochs["t"])) == ("finished", 4, 1)
    assert str(kept[0]) in out
    assert run.where_time_goes() in out
    assert f"{run.last('validation_accuracy'):.1%}" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--epochs", "abc"], "epochs='abc' is not allowed: give a whole number from 1 to 10000."),
        (["--precision", "fp8"], "precision='fp8' is not allowed: give fp32 | tf32 | fp16 | bf16."),
        (["--batchnorm", "maybe"], "batchnorm='maybe' is not allowed"),
        (["--subset", "3"], "subset=3 is smaller than batch_size=64"),
        (["--device", "cuda:99"], "device='cuda:99'"),
        (["--data", "folder:/no/such/place"], "/no/such/place"),
        (["--no-such-option", "1"], "unrecognized arguments: --no-such-option"),
    ],
)
def test_what_is_refused_is_said_in_one_sentence(main, arguments, words):
    code, _, err, kept = main(*arguments)
    assert code != 0
    sentence = err.strip().splitlines()[-1]
    assert words in sentence
    assert "Traceback" not in err
    assert kept == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine can do it")
def test_what_this_machine_cannot_do_is_refused(main):
    code, _, err, kept = main(*FEW, "--precision", "tf32")
    assert (code, kept) == (1, [])
    assert "speedkit: precision='tf32' needs an NVIDIA GPU" in err


def test_a_loss_that_is_not_finite_keeps_what_was_measured(main):
    code, _, err, kept = main(*FEW, "--learning-rate", "100", "--epochs", "40", "--weight-decay", "10")
    assert code == 1
    assert "speedkit: " in err
    assert "Traceback" not in err
    run = Run.load(kept[0])
    assert run.status == "failed"
    assert run.count > 0
    assert run.reason in err


def test_an_unexpected_failure_is_raised_and_keeps_what_was_measured(main, fail_after, tmp_path):
    fail_after(2)
    with pytest.raises(RuntimeError, match="made up"):
        main(*FEW)
    (kept,) = (tmp_path / "runs").glob("*.json")
    assert (Run.load(kept).status, Run.load(kept).count) == ("failed", 2)


def test_an_interrupt_keeps_what_was_measured(main, fail_after):
    fail_after(3, KeyboardInterrupt())
    code, out, _, kept = main(*FEW)
    assert code == 130
    assert "Stopped." in out
    run = Run.load(kept[0])
    assert (run.status, run.count) == ("stopped", 3)


def test_a_folder_that_cannot_be_made_is_said_before_training(main, tmp_path):
    (tmp_path / "runs").write_text("a file")
    code, _, err, _ = main(*FEW)
    assert code == 1
    assert "runs" in err
    assert "steps/s" not in err


def test_several_processes_are_refused(main, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    code, _, err, kept = main(*FEW)
    assert (code, kept) == (1, [])
    assert "one device" in err


def test_as_a_program(tmp_path):
    away = {"SPEEDKIT_GENERATED": str(tmp_path / "generated"), "SPEEDKIT_SMOKE": "0", "WORLD_SIZE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "speedkit", "--subset", "256", "--epochs", "1", "--out", str(tmp_path / "kept")],
        env=os.environ | away,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    (kept,) = (tmp_path / "kept").glob("*")
    assert json.loads(kept.read_text())["status"] == "finished"
    assert Run.load(kept).count == 4
    assert "training" in done.stderr or "validation accuracy" in done.stderr  # the progress bar


def test_what_was_taken_is_said_before_it_is_trained_on(main, monkeypatch, capsys):
    """It used to be said at the end: an hour late for someone who had named the wrong folder."""
    said = []

    def train(recipe, run):
        with run.recording():
            run.note("40 pictures in 1 class.")
            yield __main__.Progress("images", 40, 40)
            said.append(capsys.readouterr().err)
            yield run.step(step_s=0.1)

    monkeypatch.setattr(__main__, "train", train)
    code, out, __, __ = main(*FEW)
    assert code == 0
    assert "40 pictures in 1 class." in said[0]
    assert "40 pictures in 1 class." in out  # and in the summary
