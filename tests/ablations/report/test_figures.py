"""What the figures show, read back from what was drawn."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection, QuadMesh

from ablations.report import figures
from ablations.report.drawing import Drawing, figure_style
from ablations.report.figures.class_changes import MOST_CLASSES, shown_classes
from ablations.report.figures.learning_curves import Panel
from ablations.report.figures.style import COLORS, NAME_LENGTH, short
from ablations.report.frames import cost_frame, published_frame, seeds_frame, waterfall_frame
from ablations.table import read_table
from tests.helpers.results_folder import METRIC, plan_row, plan_rows, write_results


@pytest.fixture(autouse=True)
def style():
    with figure_style():
        yield


def points(axes, marker):
    """Return the places of all markers of one kind, as `(x, y)`."""
    lines = [line for line in axes.lines if line.get_marker() == marker]
    return [point for line in lines for point in zip(*map(np.asarray, line.get_data()), strict=True)]


def test_the_waterfalls_bars_are_the_gains_of_the_table(tmp_path):
    folder = write_results(tmp_path)
    table = read_table(folder)
    frame = waterfall_frame(table, {row["index"]: row for row in plan_rows(3)})
    (axes,) = figures.draw_waterfall(frame, METRIC, ["", "+a", "+b"]).axes
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([row.gain.estimate for row in table.rows[1:]])
    assert [bar.get_x() for bar in axes.patches] == pytest.approx([row.score.estimate for row in table.rows[:2]])
    assert [text.get_text() for text in axes.texts] == ["", "+a", "+b"]
    intervals = [line.get_xdata() for line in axes.lines if len(line.get_xdata()) == 2 and line.get_linestyle() == "-"]
    assert [list(interval) for interval in intervals] == frame[["low", "high"]].to_numpy().tolist()


def test_every_seed_that_finished_is_a_dot_and_lost_ones_are_counted(tmp_path):
    folder = write_results(tmp_path, scores={(1, 2): "out of memory", (2, 0): None})
    scores = pd.read_csv(folder / "scores.csv")
    (axes,) = figures.draw_seeds(read_table(folder), seeds_frame(folder), METRIC).axes
    done = scores[scores["status"] == "done"]
    drawn = points(axes, "o")
    assert sorted(x for x, _ in drawn) == pytest.approx(sorted(100 * done[METRIC]))
    assert sorted(round(y) for _, y in drawn) == sorted(done["row"])
    assert [text.get_text().strip() for text in axes.texts] == ["1 of 5 without a score"] * 2


def test_published_gains_are_diamonds(tmp_path):
    frame = published_frame(read_table(write_results(tmp_path, plan_rows(6))))
    (axes,) = figures.draw_published(frame, METRIC, ["", ""]).axes
    assert points(axes, "D") == [(0.5, 0), (0.5, 1)]


def test_costs_have_a_panel_each_as_far_as_they_are_known(tmp_path):
    table = read_table(write_results(tmp_path))
    for flops, panels in (({}, 1), ({0: 1.0, 1: 2.0}, 2)):
        frame = cost_frame(table, flops)
        figure = figures.draw_cost(frame, METRIC, True)
        assert len(figure.axes) == panels
        drawn = sorted(point for marker in "s^vo" for point in points(figure.axes[0], marker))
        assert drawn == sorted(zip(frame["training_time"], frame["gain"], strict=True))


def test_curves_are_drawn_to_one_scale_in_panels_side_by_side():
    curve = {"metric": "train/loss", "low": [0.0, 1.0], "high": [0.0, 1.0], "mean": [0.0, 1.0], "n": 2, "epoch": [0, 9]}
    curves = pd.concat([pd.DataFrame({"key": key, **curve}) for key in "abcde"])
    panels = [Panel(f"row {key}", key, "a" if key == "b" else None) for key in "abcdex"]
    (axes,) = figures.draw_learning_curves(curves, panels, "train/loss").axes
    others, means = [each for each in axes.collections if isinstance(each, LineCollection)]
    segments = means.get_segments()
    assert len(segments) == 5
    assert len(others.get_segments()) == 1
    sizes = [np.ptp(segment, axis=0) for segment in segments]
    assert np.allclose(sizes, sizes[0])
    assert segments[4][0][0] == pytest.approx(segments[0][0][0])  # the fifth starts a new line
    assert segments[4][0][1] > segments[0][0][1]
    assert {f"row {key}" for key in "abcde"} <= {text.get_text() for text in axes.texts}


def test_class_changes_are_the_cells_of_the_grid():
    changes = pd.DataFrame([[1.0, -2.0, np.nan], [0.0, 3.5, 1.5]], index=[1, 4])
    (axes,) = figures.draw_class_changes(changes, ["a", "b"]).axes
    (mesh,) = [each for each in axes.collections if isinstance(each, QuadMesh)]
    values = np.ma.filled(mesh.get_array().reshape(2, 3), np.nan)
    assert np.array_equal(values, changes.to_numpy(), equal_nan=True)
    assert [text.get_text() for text in axes.texts] == ["+1.0", "-2.0", "0", "+3.5", "+1.5"]
    assert mesh.get_clim() == (-3.5, 3.5)


def test_of_many_classes_those_that_changed_most_are_shown():
    values = np.zeros((2, 1000))
    changed = list(range(7, 7 + 40 * MOST_CLASSES, 40))
    values[1, changed] = -1.0
    assert shown_classes(pd.DataFrame(values)) == changed


def test_a_name_in_a_figure_is_one_short_line():
    assert short("a\n b\x00") == "a b"
    assert short("x" * 100) == "x" * (NAME_LENGTH - 1) + "…"


def test_a_drawing_has_the_same_bytes_every_time_and_names_nothing_of_the_day(tmp_path):
    frame = waterfall_frame(read_table(write_results(tmp_path)), {row["index"]: row for row in plan_rows(3)})
    one, two = (Drawing("w", figures.draw_waterfall(frame, METRIC, ["", "", ""])) for _ in range(2))
    one.write(tmp_path / "one")
    two.write(tmp_path / "two")
    for name in ("w.svg", "w.png"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert "<dc:date>" not in one.svg
    assert b"matplotlib" not in (tmp_path / "one/w.png").read_bytes().lower()


def test_a_drawing_in_the_page_has_its_own_ids_and_the_pages_colours(tmp_path):
    rows = [plan_row(0, "base"), plan_row(1, "+ <script>1<& $x_1$ 字")]
    frame = waterfall_frame(read_table(write_results(tmp_path, rows)), {row["index"]: row for row in rows})
    inline = Drawing("w", figures.draw_waterfall(frame, METRIC, ["", ""])).inline("what it shows")
    assert inline.startswith('<svg role="img" aria-label="what it shows" viewBox="0 0 ')
    assert all(part.startswith("w-") for part in _values(inline, ' id="'))
    assert all(part.startswith("w-") for part in _values(inline, 'href="#'))
    assert set(_values(inline, 'href="#')) <= set(_values(inline, ' id="'))
    assert "<script" not in inline
    assert "&lt;script&gt;" in inline
    assert "$x_1$ 字</text>" in inline
    assert "<!--" not in inline
    assert "http" not in inline
    assert COLORS["ink"] not in inline
    assert "var(--gain)" in inline


def _values(text, start):
    return [part.partition('"')[0] for part in text.split(start)[1:]]
