"""The lesson on three teams: what networks write and find, the table of techniques by teams, and who looks ahead."""

import pytest
import torch
from torch import nn

from speedkit import Recipe, compare, fit
from speedkit.lessons.three_teams import lesson

TEXT = Recipe(data="text", model="tcn", subset=64, batch_size=16, context=16, device="cpu")
RATINGS = Recipe(data="ratings", subset=64, batch_size=16, history=5, device="cpu")


class Counting(nn.Module):
    """Is sure that the next byte is the last one plus one."""

    def __init__(self):
        super().__init__()
        self.nothing = nn.Parameter(torch.zeros(1))

    def forward(self, inputs):
        return 1000.0 * nn.functional.one_hot((inputs.long() + 1) % 256, 256).float().transpose(1, 2)


def test_a_sample_is_what_the_network_is_sure_of():
    assert lesson.sample(Counting(), "a", length=5, context=4) == "abcdef"
    assert lesson.sample(Counting(), "}", length=3) == "}~·\N{REPLACEMENT CHARACTER}"  # DEL, and a byte of no character


def test_a_sample_is_shown_as_text():
    assert repr(lesson.sample(Counting(), "a\nb", length=1)) == "a\nbc"


def test_the_networks_of_a_recipe_untrained_and_trained_differ(generated):
    untrained, trained = lesson.with_networks(TEXT)
    pairs = list(zip(untrained.parameters(), trained.parameters(), strict=True))
    fresh = lesson.first_batch(TEXT)[2]
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(untrained.parameters(), fresh.parameters(), strict=True))
    assert any(not torch.allclose(a, b, atol=1e-3) for a, b in pairs)


def test_neighbours_are_those_in_the_same_direction(generated):
    model = lesson.first_batch(RATINGS)[2]
    known = lesson.drain(lesson.module_of(RATINGS).load(RATINGS)).classes
    first, *near = (known.index(name) for name in ("perl", "libc6", "python3"))
    with torch.no_grad():
        model.items.weight[near[0]] = 3 * model.items.weight[first]  # as far as one likes
        model.items.weight[near[1]] = model.items.weight[first] + 0.01
    (row,) = lesson.neighbours(model, RATINGS, "perl", count=2).rows
    assert row == ["perl", "libc6, python3"]
    with pytest.raises(ValueError, match="There is no item 'pearl' in ratings"):
        lesson.neighbours(model, RATINGS, "pearl")


def test_the_table_has_a_cell_for_each_technique_and_team(generated):
    recipes = {"language": TEXT.but(cache="ram"), "recommendation": RATINGS}
    found = lesson.Teams(recipes)
    table = found.table()
    assert table.heading == ["technique", "judged by", *recipes]
    assert [row[2:] for row in table.rows] == [["not measured yet"] * 2] * 6
    assert table.rows[3][1] == "validation accuracy, next byte / validation hit@10"
    found.comparisons["precision", "language"] = compare(TEXT, TEXT.but(precision="bf16"), 1, progress=False)
    (cell, other), *_ = (row[2:] for row in found.table().rows)
    assert cell.endswith(": too few pairs to judge")
    assert other == "not measured yet"


def test_measuring_fills_the_cells_that_are_asked_for(generated, monkeypatch):
    monkeypatch.setattr(lesson.sizes, "of", lambda name: {"subset": 32, "epochs": 3})
    found = lesson.measure({"language": TEXT}, ["early_stopping", "cache"], pairs=1, progress=False)
    assert list(found.comparisons) == [("early_stopping", "language"), ("cache", "language")]
    first, second = found.comparisons.values()
    assert (first.baseline.epochs, first.variant.early_stopping, second.variant.cache) == (3, 1, "ram")
    assert second.baseline == TEXT


def test_the_recipes_of_the_teams_take_every_technique(generated):
    for recipe in lesson.teams().values():
        for change in lesson.switched(recipe).values():
            assert recipe.but(**change) != recipe


def test_where_a_step_goes_is_in_the_units_of_each_team(generated):
    table = lesson.where(language=fit(TEXT), recommendation=fit(RATINGS))
    assert [row[5].split()[-1] for row in table.rows] == ["bytes/s", "samples/s"]
    assert all("n/a" not in row for row in table.rows)


def test_only_with_batch_norm_and_only_in_training_a_network_looks_ahead(generated):
    table = lesson.looks_ahead(TEXT, TEXT.but(batchnorm=True), TEXT.but(model="transformer"))
    assert [row[:3] for row in table.rows] == [
        ["tcn, no batch norm", "training", "no"],
        ["tcn, no batch norm", "evaluation", "no"],
        ["tcn, batch norm", "training", "yes"],
        ["tcn, batch norm", "evaluation", "no"],
        ["transformer, no batch norm", "training", "no"],
        ["transformer, no batch norm", "evaluation", "no"],
    ]
