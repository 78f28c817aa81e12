"""The chart: what is drawn and said, from runs whose figures are known by construction."""

import gc
import io
import math
import re
import subprocess
import sys
import threading
import weakref
from xml.etree import ElementTree

import numpy as np
import pytest

from speedkit import run as run_module
from speedkit.lab import axes as axes_module
from speedkit.lab import chart, picture
from speedkit.lab.chart import content
from speedkit.lab.chart.svg import HEIGHT
from speedkit.recipe import Recipe
from speedkit.run import Run

SVG = "{http://www.w3.org/2000/svg}"
FINITE = {"wait_s": 0.002, "compute_s": 0.003, "memory": 300 * 2**20, "loss": 1.0}


def run_of(steps, device="cpu", status="running", epochs=0, recipe=None, **columns):
    """A run with ``steps`` steps; a column is a number, or a sequence with one number per step."""
    run = Run(recipe or Recipe(batch_size=64))
    run.status, run.machine = status, {"device": device}
    figures = {
        name: np.broadcast_to(values, (steps,)) for name, values in (FINITE | {"t": range(steps)} | columns).items()
    }
    if "step_s" not in figures:
        figures["step_s"] = figures["wait_s"] + figures["compute_s"]
    for i in range(steps):
        run.step(epoch=0, **{name: float(values[i]) for name, values in figures.items()})
    for i in range(epochs):
        end = (i + 1) * steps // epochs
        run.epoch(steps=end, t=float(figures["t"][end - 1]), validation_accuracy=0.8 + 0.1 * i / epochs)
    return run


def parsed(run, earlier=(), *options):
    return ElementTree.fromstring(chart.svg(run, earlier, *options))


def words(root):
    return ["".join(text.itertext()).strip() for tag in ("p", "span", f"{SVG}text") for text in root.iter(tag)]


def paths(root, series):
    return [path for path in root.iter(f"{SVG}path") if path.get("data-series") == series]


def points(path):
    """The points of a path, [points, 2], from the absolute first and the relative others."""
    found = []
    for piece in path.get("d").rstrip("z").split("M")[1:]:
        numbers = np.array([int(number) for number in re.findall(r"-?\d+", piece)])
        found.append(np.cumsum(numbers.reshape(-1, 2), axis=0))
    return np.concatenate(found)


# Thinning


@pytest.mark.parametrize("steps", [0, 1, 2, 80, 81, 82, 160, 161, 162, 1000, 12_345])
def test_thinning_keeps_the_first_step_the_extremes_and_the_sum(steps):
    values = np.random.default_rng(0).lognormal(size=steps)
    line = content.thin(values, 80, raw=160)
    assert len(line.x) == (steps if steps <= 160 else len(line.mean)) <= 160
    if steps > 160:
        assert len(line.x) <= 81
    if steps:
        assert (line.x[0], line.mean[0]) == (1, values[0])
        assert (line.low.min(), line.high.max()) == (values.min(), values.max())
        assert (np.diff(line.x) > 0).all()
        assert line.x[-1] <= steps


def test_a_point_is_the_mean_of_equally_many_steps():
    values = np.arange(1.0, 1 + 1 + 4 * 80)  # step n took n
    line = content.thin(values, 80)
    np.testing.assert_allclose(line.mean, line.x)
    np.testing.assert_allclose(line.high[1:] - line.low[1:], 3)


def test_points_stay_in_place_while_a_run_grows():
    values = np.random.default_rng(0).random(1000)
    shorter, longer = content.thin(values[:900], 80), content.thin(values, 80)
    np.testing.assert_array_equal(shorter.mean[:50], longer.mean[:50])


def test_what_is_not_available_is_left_out_of_a_point_and_a_gap_where_nothing_is_left():
    values = np.full(1 + 8 * 64, 2.0)
    values[5] = math.nan
    values[1 + 8 * 10 : 1 + 8 * 12] = [math.nan, math.inf] * 8
    line = content.thin(values, 64)
    assert np.flatnonzero(np.isnan(line.mean)).tolist() == [11, 12]
    assert np.nanmin(line.mean) == np.nanmax(line.mean) == 2


# Scales


@pytest.mark.parametrize("high", [3e-9, 0.0034, 1, 7, 99, 100, 101, 12_345, 3e15, 1e90])
def test_ticks_are_nice_distinct_and_reach_the_highest_value(high):
    axis = axes_module.scale(0, high, "ms")
    step = np.diff(list(axis.ticks))[0]
    assert round(step / 10 ** math.floor(math.log10(step) + 1e-6), 6) in (1, 2, 5)
    assert 2 <= len(axis.ticks) <= 7
    assert high <= axis.high * (1 + 1e-9)
    assert axis.high < 2.6 * high
    assert len(set(axis.ticks.values())) == len(axis.ticks)
    assert list(axis.ticks.values())[-1].endswith(" ms")


def test_the_first_step_is_marked_at_the_top_and_does_not_squash_the_others():
    compute = np.full(100, 0.003)
    compute[0] = 3.0
    root = parsed(run_of(100, compute_s=compute))
    heights = points(*paths(root, "step_s"))[:, 1]
    assert heights[0] == 0
    assert (heights[1:] < HEIGHT / 2).all()
    assert "▲ first step 3 s" in words(root)
    clipped = [path for path in root.iter(f"{SVG}path") if path.get("class") == "sk-clipped"]
    assert [path.get("d").count("M") for path in clipped] == [1]


def test_a_short_slow_run_is_not_clipped_by_a_long_fast_one():
    root = parsed(run_of(20, compute_s=0.5), [run_of(5000, status="finished")])
    assert not any("▲" in text for text in words(root))
    assert points(*[p for p in paths(root, "step_s") if not p.get("stroke-dasharray")])[:, 1].min() > 0


# The SVG


def test_it_is_one_labelled_element_with_the_step_and_fits_its_column():
    root = parsed(run_of(7, epochs=1))
    assert (root.get("class"), root.get("role"), root.get("data-n")) == ("sk-chart", "img", "7")
    drawings = [each for each in root.findall(f"{SVG}svg")]
    assert len(drawings) == 4
    for drawing in drawings:
        assert drawing.get("width") == "100%"
        assert drawing.get("viewBox").startswith("0 0 900 ")
    assert "images per second: 12,800" in root.get("aria-label")


def test_titles_say_the_current_figures():
    said = words(parsed(run_of(50, epochs=2)))
    assert any("waiting for data 2 ms" in text and "computing 3 ms" in text for text in said)
    assert "memory of the processes since the start: +300.0 MiB" in said
    assert "images per second: 12,800" in said
    assert any("loss 1" in text and "● accuracy 85.0% (right)" in text for text in said)


def test_memory_of_a_gpu_is_called_so_and_large_memory_is_in_gib():
    said = words(parsed(run_of(5, device="cuda:0", memory=6 * 2**30)))
    assert "memory on the device: 6.0 GiB" in said
    assert "6 GiB" in said


def test_every_step_is_a_point_until_there_are_too_many():
    (line,) = paths(parsed(run_of(150)), "loss")
    assert len(points(line)) == 150
    root = parsed(run_of(30_000), [run_of(30_000)] * 3)
    assert max(len(points(path)) for series in ("loss", "memory") for path in paths(root, series)) <= 81
    assert max(len(points(*paths(root, f"{series} band"))) for series in ("loss", "memory")) <= 162


def test_the_size_does_not_grow_with_the_run():
    rng = np.random.default_rng(0)
    for steps in (160, 161, 640, 641, 20_000):
        noisy = {name: value * rng.lognormal(0, 0.5, steps) for name, value in FINITE.items()}
        run = run_of(steps, epochs=min(steps, 300), **noisy)
        assert len(chart.svg(run, [run] * 6)) < 25_000


def test_the_highest_step_survives_thinning():
    memory = np.full(20_000, 100.0 * 2**20)
    memory[12_345] = 200 * 2**20
    (band,) = paths(parsed(run_of(20_000, memory=memory)), "memory band")
    outline = points(band)
    assert outline[:, 1].min() == 0  # 200 MiB is the top tick
    assert outline[outline[:, 1].argmin(), 0] == pytest.approx(12_345 / 20_000 * outline[:, 0].max(), abs=15)


def test_waiting_is_stacked_on_computing_up_to_the_whole_step():
    root = parsed(run_of(40, wait_s=0.006, compute_s=0.002))
    (computing,), (waiting,), (total,) = (paths(root, name) for name in ("compute_s", "wait_s", "step_s"))
    assert points(computing)[:, 1].min() == points(waiting)[:, 1].max()
    assert points(waiting)[:, 1].min() == points(total)[0, 1]
    assert computing.get("fill") != waiting.get("fill")


def test_accuracy_is_at_the_end_of_its_epochs():
    root = parsed(run_of(100, status="finished", epochs=4))
    accuracy, loss = points(*paths(root, "validation_accuracy")), points(*paths(root, "loss"))
    assert accuracy[:, 0].tolist() == pytest.approx([loss[:, 0].max() * share for share in (0.25, 0.5, 0.75, 1)], abs=1)
    assert (np.diff(accuracy[:, 1]) < 0).all()


def test_earlier_runs_have_their_own_dash_colour_and_name():
    earlier = [run_of(10, status="finished") for _ in range(6)]
    lines = paths(parsed(run_of(10), earlier), "memory")
    looks = [(line.get("stroke"), line.get("stroke-dasharray")) for line in lines]
    assert looks[0] == (picture.INK, None)
    assert len(set(looks)) == 7
    said = words(parsed(run_of(10), earlier))
    assert {"baseline", "baseline (2)", "baseline (6)", "this run: baseline (7)"} <= set(said)


def test_labels_that_repeat_name_the_setting_that_differs():
    recipes = [Recipe(), Recipe(learning_rate=0.1), Recipe(workers=2), Recipe()]
    assert run_module.labels([Run(recipe) for recipe in recipes]) == [
        "baseline",
        "baseline, learning_rate 0.1",
        "2 workers",
        "baseline (2)",
    ]


def test_labels_are_escaped(monkeypatch):
    monkeypatch.setattr(Run, "label", "<script>alert('$x$ & \"y\"')</script>")
    drawn = chart.svg(run_of(3), [run_of(3)])
    assert "<script" not in drawn
    assert "<script>alert('$x$ & \"y\"')</script>" in words(ElementTree.fromstring(drawn))


@pytest.mark.parametrize(
    ("theme", "background"), [("light", (255, 255, 255)), ("dark", (17, 17, 17))], ids=["light", "dark"]
)
def test_colours_stand_out_from_both_backgrounds(theme, background):
    def luminance(rgb):
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in rgb)]
        return sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    for colour in (picture.WAITING, picture.COMPUTING, picture.VALIDATION, *picture.RUN_COLOURS[1:]):
        rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        dim, bright = sorted((luminance(rgb), luminance(background)))
        assert (bright + 0.05) / (dim + 0.05) >= 3, f"{colour} on {theme}"


# What is missing, or out of proportion

ODD = {
    "no step": run_of(0),
    "one step": run_of(1),
    "all nan": run_of(30, **dict.fromkeys(FINITE, math.nan)),
    "infinite": run_of(30, **dict.fromkeys(FINITE, math.inf)),
    "zero": run_of(30, **dict.fromkeys(FINITE, 0.0)),
    "zero, thinned": run_of(300, **dict.fromkeys(FINITE, 0.0)),
    "negative": run_of(30, **dict.fromkeys(FINITE, -5.0)),
    "tiny": run_of(30, **dict.fromkeys(FINITE, 5e-324)),
    "enormous": run_of(300, step_s=1.7e308, **dict.fromkeys(FINITE, 1.7e308)),
    "large": run_of(300, **dict.fromkeys(FINITE, 9e99)),
    "wild": run_of(8, **{name: [1e-300, 1e90, -1e50, math.nan, math.inf, -math.inf, 0, 1] for name in FINITE}),
    "gaps": run_of(31, **{name: [1.0, math.nan] * 15 + [1.0] for name in FINITE}),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("other", ["no step", "all nan", "large", "gaps"])
def test_odd_runs_are_drawn(name, other):
    run, earlier = ODD[name], [ODD[other]]
    root = parsed(run, earlier)
    assert root.get("data-n") == str(run.count)
    assert not re.search(r"\b(nan|inf)\b", "".join(words(root)) + "".join(p.get("d") for p in root.iter(f"{SVG}path")))
    assert chart.text(run, earlier)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ODD)
def test_odd_runs_have_a_figure(name):
    assert chart.png(ODD[name], [ODD["one step"]]).startswith(b"\x89PNG")


def test_a_series_without_figures_says_so():
    nothing = dict.fromkeys(FINITE, math.nan)
    for run in (run_of(50, **nothing), run_of(5, status="finished", **nothing)):
        assert words(parsed(run)).count("n/a on this machine") == 4
    assert words(parsed(run_of(50, memory=math.nan))).count("n/a on this machine") == 1
    assert "waiting: n/a on this machine" in words(parsed(run_of(50, wait_s=math.nan, step_s=0.01)))
    assert words(parsed(ODD["no step"])).count("no steps yet") == 4


def test_what_a_gpu_has_not_finished_is_not_said_to_be_not_available():
    early = words(parsed(run_of(5, **dict.fromkeys(FINITE, math.nan))))
    assert early.count("not yet") == 4
    assert "n/a on this machine" not in early


def test_a_missing_figure_is_a_gap():
    memory = np.full(20, 2.0**28)
    memory[7:9] = math.nan
    (line,) = paths(parsed(run_of(20, memory=memory)), "memory")
    assert line.get("d").count("M") == 2
    assert len(points(line)) == 18


def test_a_loss_fetched_now_and_then_is_one_line():
    loss = np.where(np.arange(20) % 5 == 0, 1.0, math.nan)
    (line,) = paths(parsed(run_of(20, loss=loss)), "loss")
    assert line.get("d").count("M") == 1
    assert len(points(line)) == 4


# Threads and memory


def test_it_draws_a_run_that_grows_in_another_thread():
    run, stop = run_of(0), threading.Event()

    def grow():
        while not stop.wait(0.0002):
            run.step(epoch=0, t=0.0, step_s=0.005, **FINITE)
            run.epoch(steps=run.count, t=0.0, validation_accuracy=0.5)

    grower = threading.Thread(target=grow)
    grower.start()
    try:
        drawn = [int(parsed(run).get("data-n")) for _ in range(30)]
    finally:
        stop.set()
        grower.join()
    assert drawn == sorted(drawn)


def test_what_is_kept_of_a_finished_run_goes_with_it_and_follows_the_run_until_then():
    run = run_of(10)
    assert parsed(run).get("data-n") == "10"
    run.step(epoch=0, t=0.0, step_s=0.005, **FINITE | {"loss": 3.0})
    run.status = "finished"
    first = chart.svg(run)
    assert ElementTree.fromstring(first).get("data-n") == "11"
    assert chart.svg(run) == first
    gone = weakref.ref(run)
    del run
    gc.collect()
    assert gone() is None


# Words and the figure


def test_text_has_the_last_figures_of_all_runs():
    said = chart.text(run_of(50, epochs=2), [run_of(20, status="finished", recipe=Recipe(batch_size=64, workers=2))])
    assert said.splitlines() == [
        "baseline (running): step 50",
        "time per step: 2 ms waiting for data + 3 ms computing",
        "memory of the processes since the start: +300.0 MiB",
        "images per second: 12,800",
        "training loss 1, validation accuracy 85.0%",
        "earlier, 2 workers: 5 ms per step, 300.0 MiB, 12,800 images/s, validation accuracy n/a",
    ]


def test_figures_are_of_the_recent_steps_while_a_run_goes_on_and_of_all_once_it_is_over():
    compute = np.r_[9.0, np.full(200, 0.01), np.full(40, 0.03)]  # 200 × 10 ms and 40 × 30 ms: 13.3 ms on average
    assert "+ 30 ms computing" in chart.text(run_of(241, compute_s=compute))
    assert "+ 13.3 ms computing" in chart.text(run_of(241, compute_s=compute, status="finished"))


def test_the_figure_has_the_same_axes_and_lines():
    earlier = [run_of(50, status="finished", epochs=2)]
    drawn = chart.figure(run_of(400, status="finished", epochs=4), earlier)
    assert len(drawn.axes) == 5  # four, and accuracy on the right of the last
    assert [len(axes.lines) for axes in drawn.axes] == [2, 2, 2, 2, 2]
    assert [len(axes.collections) for axes in drawn.axes[:4]] == [3, 1, 1, 1]
    np.testing.assert_allclose(drawn.axes[1].lines[0].get_ydata(), 300)
    assert [text.get_text() for text in drawn.legends[0].get_texts()] == ["this run: baseline (2)", "baseline"]


def test_the_figure_is_drawn_in_the_default_style_whatever_the_learner_set():
    import matplotlib
    import matplotlib.style

    run, earlier = run_of(50, status="finished", epochs=2), [run_of(50, status="finished")]
    plain = chart.png(run, earlier)
    with matplotlib.style.context("dark_background"):
        dark = chart.png(run, earlier)
        assert matplotlib.rcParams["axes.facecolor"] == "black"  # as the learner left it
    assert dark == plain


def test_png_is_drawn_in_threads_without_pyplot_and_mathtext(monkeypatch):
    from matplotlib.mathtext import MathTextParser

    monkeypatch.setattr(MathTextParser, "parse", lambda *args, **kwargs: pytest.fail("mathtext was used"))
    monkeypatch.setattr(Run, "label", "costs $1$ and $2$")
    images = []
    threads = [threading.Thread(target=lambda: images.append(chart.png(run_of(5), [run_of(5)]))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(images) == 3
    assert len(set(images)) == 1
    from PIL import Image

    assert Image.open(io.BytesIO(images[0])).size == (900, 560)


def test_live_drawing_imports_no_matplotlib_and_the_figure_no_pyplot():
    code = """
import sys
from speedkit.lab.chart import png, svg, text
from speedkit.recipe import Recipe
from speedkit.run import Run
run = Run(Recipe())
svg(run), text(run)
assert "matplotlib" not in sys.modules
png(run)
assert "matplotlib.pyplot" not in sys.modules and "IPython" not in sys.modules and "ipywidgets" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_in_seconds_a_line_ends_where_its_run_ends():
    slow, fast = (run_of(100, status="finished", epochs=2, t=np.arange(100) * each) for each in (0.02, 0.005))
    root = parsed(slow, [fast], content.View(in_seconds=True))
    theirs, own = sorted(points(line)[:, 0].max() for line in paths(root, "step_s"))
    assert theirs / own == pytest.approx(0.25, abs=0.01)
    assert "seconds" in words(root)
    in_steps = parsed(slow, [fast])
    assert len({points(line)[:, 0].max() for line in paths(in_steps, "step_s")}) == 1


def test_a_run_keeps_its_colour_and_its_recipe_s_next_run_gets_it():
    runs = [run_of(10, status="finished", recipe=Recipe(batch_size=size)) for size in (16, 32, 64)]
    view = content.View()

    def looks(earlier):
        return [(style["colour"], style["dash"]) for style in view.styles(earlier)]

    first, second, third = looks(runs)
    assert looks(runs[1:]) == [second, third]
    assert looks([runs[2], runs[0]]) == [third, first]
    again = run_of(10, recipe=Recipe(batch_size=16))
    assert view.style(again)["colour"] == first[0]  # while it is the current run, too
    assert looks([runs[1], again]) == [second, first]


def test_a_run_has_one_colour_as_the_current_run_and_as_an_earlier_one():
    view = content.View()
    runs = [run_of(10, status="finished", recipe=Recipe(batch_size=size)) for size in (16, 32, 64)]
    current = [paths(parsed(run, runs[:i], view), "memory")[0].get("stroke") for i, run in enumerate(runs)]
    assert current[0] == picture.INK
    assert len(set(current)) == 3
    later = [line.get("stroke") for line in paths(parsed(run_of(10), runs, view), "memory")]
    assert later[1:] == current


@pytest.mark.parametrize("recipes", [1, 2, 5, 6, 12])
def test_no_two_lines_look_alike_whichever_runs_are_drawn(recipes):
    view, rng = content.View(), np.random.default_rng(recipes)
    runs = [run_of(3, status="finished", recipe=Recipe(batch_size=16 + i % recipes)) for i in range(20)]
    for _ in range(100):
        drawn = [runs[i] for i in rng.permutation(20)[: 1 + content.EARLIER_RUNS]]
        lines = paths(parsed(drawn[0], drawn[1:], view), "step_s")
        assert len({(line.get("stroke"), line.get("stroke-dasharray")) for line in lines}) == len(drawn)


def test_values_of_a_run_that_has_ended_are_read_by_pointing():
    fast, slow = (run_of(240, status="finished", epochs=2, compute_s=each, wait_s=0.0) for each in (0.01, 0.03))
    root = parsed(slow, [fast])
    read = [title.text.split("\n") for title in root.iter(f"{SVG}title")]
    assert read[0] == ["5 steps", "baseline (2): 30 ms", "baseline: 10 ms"]
    assert len(read) == 4 * content.READINGS
    assert read[-1][0] == "235 steps"
    assert {"baseline: 85.0%", "baseline (2): 85.0%", "baseline: 1"} <= set(read[-1])  # validation accuracy and loss
    going = parsed(run_of(240, compute_s=0.03), [fast])
    assert not [*going.iter(f"{SVG}title")]  # it would vanish with the next frame


def test_the_validation_loss_is_drawn_on_the_axis_of_the_loss():
    run = run_of(100, status="finished")
    for end, loss in ((50, 0.7), (100, 0.4)):
        run.epoch(steps=end, t=float(end), validation_loss=loss, validation_accuracy=0.8)
    plot = content.prepare(run).plots[3]
    (line,) = [mark for mark in plot.marks if mark.name == "validation_loss"]
    assert not line.right
    assert line.y.tolist() == [0.7, 0.4]
    assert line.x.tolist() == [50, 100]
    assert ("validation 0.4", picture.VALIDATION) in plot.title


def test_the_epoch_whose_weights_early_stopping_kept_is_marked():
    run = run_of(100, status="finished", epochs=4, t=np.arange(100) * 0.01)
    assert not paths(parsed(run), "best_epoch")
    run.scalars["best_epoch"] = 1.0
    (line,) = paths(parsed(run), "best_epoch")
    assert points(line)[:, 1].tolist() == [HEIGHT, 0]
    assert "the weights of epoch 2 were kept" in words(parsed(run))
    for in_seconds, where in ((False, 50), (True, 0.49)):
        (mark,) = [
            m for m in content.prepare(run, (), content.View(in_seconds)).plots[3].marks if m.name == "best_epoch"
        ]
        assert mark.x.tolist() == [where] * 2
    run.scalars["best_epoch"] = 4.0  # of a file that somebody has changed
    assert not paths(parsed(run), "best_epoch")
