"""A recipe takes what is allowed and refuses everything else with a sentence."""

import json
import math
import pickle
from decimal import Decimal
from fractions import Fraction
from types import NoneType
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from speedkit.recipe import DEVICES, SOURCES, SWITCHES, Recipe
from speedkit.support import settings
from speedkit.support.strict import choices
from speedkit.support.typed import parse
from speedkit.tasks import TASKS, name_of

FIELDS = Recipe.model_fields
SAMPLES = {
    "data": [
        *("fashion-mnist", "jpeg", "sqlite", "folder:/a b/c", "torchvision:KMNIST", "torchvision:MNIST:/x"),
        *("text", "text-sqlite", "text:/a b.txt", "ratings", "ratings-sqlite", "ratings:/a.csv"),
    ],
    "device": ["auto", "cpu", "mps", "cuda", "cuda:0", "cuda:12"],
}
WRONG_TEXTS = {
    "data": [
        "",
        "mnist",
        "jpegs",
        "folder:",
        "torchvision:",
        "torchvision:a b",
        "http://x",
        "sqlite\n",
        "text:",
        "texts",
        "ratings:",
        "text-sqlite:x",
    ],
    "device": ["", "gpu", "cuda:", "cuda:-1", "cuda:x", "cpu:0", "tpu", "cuda "],
}
NOT_A_NUMBER_AT_ALL = [
    "1",
    b"1",
    "",
    [1],
    (),
    {},
    object(),
    1j,
    True,
    False,
    np.True_,
    Decimal(1),
    torch.ones(1),
    print,
]


def ends(name):
    """The lowest and the highest value of a field of numbers."""
    (low,) = [rule.ge for rule in FIELDS[name].metadata if hasattr(rule, "ge")]
    (high,) = [rule.le for rule in FIELDS[name].metadata if hasattr(rule, "le")]
    return low, high


def kinds(name):
    """The types that a field of one value takes, NoneType among them where it may be None."""
    return get_args(FIELDS[name].annotation) or (FIELDS[name].annotation,)


def allowed_values(name):
    if few := choices(FIELDS[name]):
        return st.sampled_from(few)
    if name in SAMPLES:
        return st.sampled_from(SAMPLES[name])
    values = st.floats(*ends(name)) if float in kinds(name) else st.integers(*ends(name))
    return st.none() | values if NoneType in kinds(name) else values


def wrong_values(name):
    """Wrong types and values for one field, made from its rules."""
    none = st.nothing() if NoneType in kinds(name) else st.none()
    if kinds(name) == (bool,):
        return none | st.integers() | st.floats() | st.sampled_from(["True", "true", "", [], "off", 10**5000])
    if few := choices(FIELDS[name]):
        other_case = [c.upper() for c in few] + [c.title() for c in few]
        other_case += [f" {c}" for c in few]
        return (
            none | st.sampled_from([*other_case, "", 0, 1.5, True, math.nan, list(few), b"off"]) | st.text()
        ).filter(lambda value: value not in few)
    if name in SAMPLES:
        other_case = [s.upper() for s in SAMPLES[name][:3]]
        return none | st.sampled_from([*other_case, *WRONG_TEXTS[name], 3, 1.5, True, math.nan, b"cpu", ["cpu"]])
    low, high = ends(name)
    beyond = st.integers(max_value=math.ceil(low) - 1) | st.integers(min_value=math.floor(high) + 1)
    beyond |= st.sampled_from([-(10**400), 10**400, 10**5000, -(10**5000)])
    wrong = none | st.sampled_from([math.nan, math.inf, -math.inf, *NOT_A_NUMBER_AT_ALL]) | beyond
    return wrong | (st.floats().filter(lambda x: not low <= x <= high) if float in kinds(name) else st.floats())


def what_is_allowed(name):
    """Words that a refusal must hold so that its reader can fix the value."""
    if few := choices(FIELDS[name]) or SAMPLES.get(name, ())[:2]:
        return [str(choice) for choice in few]
    return [str(end) for end in ends(name)]


@pytest.mark.parametrize("name", FIELDS)
@given(st.data())
def test_a_wrong_value_is_refused_by_name_with_what_is_allowed(name, draw):
    value = draw.draw(wrong_values(name))
    with pytest.raises(ValueError, match=f"^{name}=") as refusal:
        Recipe(**{name: value})
    for word in what_is_allowed(name):
        assert word in str(refusal.value)
    assert len(str(refusal.value)) < 300
    assert "\n" not in str(refusal.value)
    assert not isinstance(refusal.value, ValidationError)


def test_every_field_of_text_says_what_it_allows():
    assert {name for name in FIELDS if kinds(name) == (str,)} == SAMPLES.keys()
    assert (FIELDS["data"].examples, FIELDS["device"].examples) == (SOURCES, DEVICES)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"workers": "two"}, "workers='two' is not allowed: give a whole number from 0 to 64."),
        ({"early_stopping": 0}, "early_stopping=0 is not allowed: give a whole number from 1 to 1000, or None."),
        ({"learning_rate": True}, "learning_rate=True is not allowed: give a number from 1e-08 to 100."),
        ({"precision": "FP16"}, "precision='FP16' is not allowed: give fp32 | tf32 | fp16 | bf16."),
        ({"batchnorm": 1}, "batchnorm=1 is not allowed: give False | True."),
        ({"device": "gpu"}, "device='gpu' is not allowed: give auto | cpu | mps | cuda | cuda:N."),
        (
            {"shift": 10**5000},
            "shift=a number of thousands of digits is not allowed: give a whole number from 0 to 64.",
        ),
    ],
)
def test_the_sentence_in_full(values, sentence):
    with pytest.raises(ValueError, match="not allowed") as refusal:
        Recipe(**values)
    assert str(refusal.value) == sentence


@st.composite
def recipes(draw):
    values = {name: draw(allowed_values(name)) for name in FIELDS}
    task = TASKS[name_of(values["data"])]
    for others in TASKS.values():
        if others is not task:
            values |= {name: FIELDS[name].default for name in others.fields}
    values["model"] = draw(st.sampled_from(task.networks))
    values["batchnorm"] &= values["model"] not in task.without_norm
    if values["subset"] is not None:
        values["subset"] = max(values["subset"], values["batch_size"])
    return Recipe(**values)


@given(recipes())
def test_every_allowed_recipe_goes_through_json_and_back(recipe):
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


def test_the_baseline_has_all_six_switches_off():
    assert Recipe().switches() == {
        "precision": "fp32",
        "early_stopping": None,
        "augment": "off",
        "batchnorm": False,
        "workers": 0,
        "cache": "off",
    }
    assert Recipe().label == "baseline"


def test_a_recipe_cannot_be_changed_and_takes_no_positional_values():
    with pytest.raises(ValidationError, match="frozen"):
        Recipe().workers = 2
    with pytest.raises(TypeError):
        Recipe("fp32")
    assert len({Recipe(), Recipe(), Recipe(seed=1)}) == 2
    assert pickle.loads(pickle.dumps(Recipe(workers=2))) == Recipe(workers=2)
    assert str(Recipe(workers=2)) == repr(Recipe(workers=2)) == f"{Recipe(workers=2)}"
    assert eval(repr(Recipe(workers=2))) == Recipe(workers=2)


def test_numbers_of_other_libraries_become_python_numbers():
    recipe = Recipe(workers=np.int64(2), learning_rate=np.float32(0.5), weight_decay=Fraction(1, 4))
    assert (type(recipe.workers), type(recipe.learning_rate), type(recipe.weight_decay)) == (int, float, float)
    assert (recipe.workers, recipe.learning_rate, recipe.weight_decay) == (2, 0.5, 0.25)
    assert type(Recipe(learning_rate=1).learning_rate) is float


def test_but_changes_a_copy():
    recipe = Recipe(workers=2)
    assert recipe.but(precision="bf16") == Recipe(workers=2, precision="bf16")
    assert recipe == Recipe(workers=2)


@pytest.mark.parametrize(
    ("name", "hint"), [("worker", "did you mean workers?"), ("augmentation", "augment"), ("xyz", "precision")]
)
def test_but_refuses_an_unknown_field_with_a_hint(name, hint):
    with pytest.raises(ValueError, match=f"no field '{name}'") as refusal:
        Recipe().but(**{name: 1})
    assert hint in str(refusal.value)
    with pytest.raises(ValueError, match=name):
        Recipe.from_dict({name: 1})


def test_from_dict_gives_missing_fields_their_default():
    assert Recipe.from_dict({"workers": 1}) == Recipe(workers=1)
    assert Recipe.from_dict({}) == Recipe()


def test_a_subset_smaller_than_a_batch_is_refused():
    with pytest.raises(ValueError, match="subset=10 is smaller than batch_size=64"):
        Recipe(subset=10)
    assert Recipe(subset=64).subset == 64


def test_the_label_names_each_switch_that_is_on():
    on = {
        "precision": ("bf16", "bf16"),
        "early_stopping": (3, "early stopping 3"),
        "augment": ("heavy", "heavy augmentation"),
        "batchnorm": (True, "batch norm"),
        "workers": (2, "2 workers"),
        "cache": ("ram", "ram cache"),
    }
    assert tuple(on) == SWITCHES
    for name, (value, words) in on.items():
        assert Recipe(**{name: value}).label == words
    everything = Recipe(**{name: value for name, (value, _) in on.items()}).label
    assert everything == " + ".join(words for _, words in on.values())
    assert Recipe(workers=1).label == "1 worker"


def test_differences_names_the_fields_and_both_values():
    assert Recipe().differences(Recipe(workers=2, seed=1)) == {"workers": (0, 2), "seed": (0, 1)}
    assert Recipe().differences(Recipe()) == {}


@given(recipes())
def test_the_smoke_cut_is_small_and_keeps_the_switches(recipe):
    cut = recipe.for_smoke()
    assert cut.subset <= 256
    assert cut.batch_size <= 32
    assert cut.steps <= 6
    assert cut.epochs <= 2
    assert cut.stored_size <= 64 or "stored_size" in cut.unused()
    assert cut.switches() == recipe.switches()
    assert cut.for_smoke() == cut


def test_the_smoke_cut_never_enlarges():
    tiny = Recipe(subset=20, batch_size=10, epochs=1, steps=2, stored_size=28)
    assert tiny.for_smoke() == tiny


@pytest.mark.parametrize(("value", "expected"), [(None, False), ("", False), ("0", False), ("1", True)])
def test_smoke_is_asked_for_by_the_environment(monkeypatch, value, expected):
    if value is not None:
        monkeypatch.setenv("SPEEDKIT_SMOKE", value)
    assert settings.smoke() is expected


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("workers", "3", 3),
        ("early_stopping", "none", None),
        ("early_stopping", "OFF", None),
        ("early_stopping", "4", 4),
        ("learning_rate", "1e-3", 0.001),
        ("precision", "bf16", "bf16"),
        ("cache", "off", "off"),
        ("subset", "", None),
        ("data", "folder:~/my pictures", "folder:~/my pictures"),
        ("batchnorm", "on", True),
        ("batchnorm", "false", False),
    ],
)
def test_text_from_a_terminal_is_understood(name, text, value):
    parsed = parse(Recipe, name, text)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("batchnorm", "maybe"),
        ("subset", "0"),
        ("device", "none"),
        ("workers", "two"),
        ("workers", "2.5"),
        ("workers", "none"),
        ("learning_rate", "nan"),
        ("precision", "FP16"),
    ],
)
def test_text_that_does_not_fit_is_refused(name, text):
    with pytest.raises(ValueError, match=f"^{name}='?{text}"):
        parse(Recipe, name, text)
