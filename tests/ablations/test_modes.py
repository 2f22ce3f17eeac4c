"""Rows that are made of sets of tricks: pairs and the sets that Shapley orders pass through."""

import json
import math

import pandas as pd
import pytest

from ablations import commands, workers
from ablations.cli import main
from ablations.errors import StudyError
from ablations.executors import Finished, run_inline
from ablations.orders import trick_orders
from ablations.plan import row_changes
from ablations.planner import load_plan
from ablations.results import gather, recipe_name
from ablations.results import write_study as write_results
from ablations.store import RunStore
from ablations.study_file import read_study
from ablations.table import read_table, write_table
from tests.helpers.recipes import QUICK, write_study

TRICKS = ["cosine_schedule", "label_smoothing", {"seed_ensemble": {"members": 2}}]
NAMES = ["cosine_schedule", "label_smoothing", "seed_ensemble"]
HEAD = {"command": "ablate run small", "commit": None, "versions": {}, "hardware": "", "date": ""}


def plan_of(folder, **changes):
    return load_plan(write_study(folder, **{"tricks": TRICKS, **changes}))


def problems(folder, **changes):
    with pytest.raises(StudyError) as error:
        plan_of(folder, **changes)
    return str(error.value)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Both modes run one after the other in one store: their plans, results folders, and what each trained."""
    folder = tmp_path_factory.mktemp("modes")
    store, found = RunStore(folder / "runs"), {}
    for mode in ("pairs", "shapley"):
        plan = plan_of(folder, mode=mode, set={**QUICK, "data.labels_per_class": 5})
        waiting = [training for training in plan.trainings(store) if not training.is_done()]
        ended = [event for event in run_inline(waiting, jobs=2) if isinstance(event, Finished)]
        assert [event.reason for event in ended if event.reason] == []
        write_results(folder / mode, plan, store, HEAD)
        gather(folder / mode, store)
        found[mode] = plan, folder / mode, [training for training in waiting if not training.is_ensemble]
    return found


def test_pairs_are_the_base_each_trick_alone_and_each_two(tmp_path):
    reference = {"source": "a paper", "gains": {"label_smoothing": 0.4}}
    plan = plan_of(tmp_path, mode="pairs", reference=reference)
    assert [(row.name, row.trick, row.compared_to, row.published) for row in plan.rows] == [
        ("base", None, None, None),
        ("cosine_schedule", "cosine_schedule", 0, None),
        ("label_smoothing", "label_smoothing", 0, 0.4),
        ("seed_ensemble", "seed_ensemble", 0, None),
        ("cosine_schedule, label_smoothing", None, 0, None),
        ("cosine_schedule, seed_ensemble", None, 0, None),
        ("label_smoothing, seed_ensemble", None, 0, None),
    ]
    assert [change.path for change in row_changes(plan, plan.rows[4])] == [
        "model.loss.label_smoothing",
        "model.schedule",
    ]
    assert plan.rows[4].text == "The base with cosine_schedule and label_smoothing."
    assert len({recipe_name(row) for row in plan.rows}) == 7


def test_shapley_has_a_row_for_each_set_that_an_order_passes_through(tmp_path):
    tricks = ["random_crop", "cosine_schedule", "label_smoothing", "mixup"]
    plan = plan_of(tmp_path, mode="shapley", tricks=tricks, shapley={"orders": 3})
    orders = trick_orders(tricks, 3)
    visited = {frozenset(order[:length]) for order in orders for length in range(5)}
    assert {frozenset(row.tricks) for row in plan.rows} == visited
    assert len(plan.rows) == len({row.name for row in plan.rows}) == len(visited)
    for row in plan.rows:
        assert list(row.tricks) == [name for name in tricks if name in row.tricks]


def test_a_set_has_the_recipe_that_a_stack_of_the_same_tricks_has(tmp_path):
    stack = plan_of(tmp_path)
    by_name = {row.name: row for row in plan_of(tmp_path, mode="shapley").rows}
    for length in range(1, 4):
        row = by_name[", ".join(NAMES[:length])]
        assert (row.key, row.inference) == (stack.rows[length].key, stack.rows[length].inference)


def test_more_orders_keep_the_rows_of_fewer(tmp_path):
    tricks = ["random_crop", "cosine_schedule", "label_smoothing", "mixup"]
    few, more = (plan_of(tmp_path, mode="shapley", tricks=tricks, shapley={"orders": n}) for n in (2, 6))
    assert {(row.name, row.definition) for row in few.rows} < {(row.name, row.definition) for row in more.rows}


def test_a_trick_that_revises_another_says_that_the_order_of_the_study_is_kept(tmp_path):
    again = {"again": {"set": {"model.loss.label_smoothing": 0.2}, "revises": "model.loss.label_smoothing"}}
    plan = plan_of(tmp_path, mode="shapley", tricks=["label_smoothing", again])
    row = plan.rows[3]
    assert row.text.endswith("again revises label_smoothing, so it comes after, as in the study.")
    assert row.recipe["model"]["init_args"]["loss"]["init_args"]["label_smoothing"] == 0.2


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"mode": "pairs", "tricks": ["mixup"]}, "mode 'pairs' looks at tricks together, so it needs at least two"),
        ({"mode": "shapley", "tricks": []}, "at least two tricks, not 0"),
        ({"mode": "pairs", "max_rows": 6}, "mode 'pairs' of 3 tricks is 7 rows, more than the 6"),
        ({"mode": "pairs", "max_rows": 6}, "Write `max_rows: 7` into the study if you want them all, or take fewer"),
        ({"mode": "shapley", "max_rows": 2}, "or fewer orders with `shapley: {orders: N}`"),
        ({"mode": "shapley", "tricks": ["label_smoothing", {"b": {"set": {"model.loss.label_smoothing": 0.2}}}]},
         "with 'label_smoothing', 'b' and 'label_smoothing' both set"),
        ({"max_rows": 0}, "'max_rows' must be a whole number from 1 up, not 0"),
        ({"shapley": {"orders": True}}, "'shapley.orders' must be a whole number from 1 up, not True"),
        ({"shapley": {"ordres": 3}}, "'shapley': unknown key 'ordres'. Did you mean 'orders'?"),
        ({"shapley": 8}, "'shapley' must be a mapping, not 8"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_with_how_to_go_on(tmp_path, changes, says):
    assert says in problems(tmp_path, **changes)


def test_thirty_tricks_in_pairs_are_refused_before_any_is_applied(tmp_path):
    tricks = [{f"trick_{place}": {"set": {"model.loss.label_smoothing": 0.1}}} for place in range(30)]
    assert "mode 'pairs' of 30 tricks is 466 rows" in problems(tmp_path, mode="pairs", tricks=tricks)


@pytest.mark.parametrize("mode", ["pairs", "shapley"])
def test_a_race_of_sets_of_tricks_is_refused(tmp_path, monkeypatch, capsys, mode):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(workers, "call", lambda function, *arguments: function(*arguments))
    monkeypatch.setattr(workers, "start_server", lambda tracked: None)
    monkeypatch.setattr(commands.err, "_file", None)  # rich binds its stream when it is made
    assert main(["run", str(write_study(tmp_path, seeds=3)), "--mode", mode, "--until-decided"]) == 2
    assert f"mode {mode!r} asks for more. Leave one of them out." in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "results").exists()


def test_a_study_that_allows_more_rows_gets_them(tmp_path):
    study = read_study(write_study(tmp_path, max_rows=466, shapley={"orders": 20}))
    assert (study.max_rows, study.shapley_orders) == (466, 20)


def test_the_second_mode_trains_nothing_that_the_first_has_trained(run):
    assert len(run["pairs"][2]) == 8  # four recipes, two seeds
    assert run["shapley"][2] == []


def test_interactions_of_a_run_are_those_of_its_scores(run):
    _, folder, _ = run["pairs"]
    table = write_table(folder)
    means = pd.read_csv(folder / "scores.csv").groupby("name")["test/accuracy"].mean() * 100
    written = pd.read_csv(folder / "interactions.csv")
    assert list(zip(written["first"], written["second"], strict=True)) == [item.tricks for item in table.interactions]
    for line in written.itertuples():
        both = means[f"{line.first}, {line.second}"]
        assert line.interaction == pytest.approx(both - means[line.first] - means[line.second] + means["base"])
    text = (folder / "table.md").read_text()
    assert "## Interactions" in text and "| cosine_schedule × label_smoothing |" in text


def test_shapley_values_of_a_run_add_up_to_the_whole_gain(run):
    _, folder, _ = run["shapley"]
    write_table(folder)
    means = pd.read_csv(folder / "scores.csv").groupby("name")["test/accuracy"].mean() * 100
    written = pd.read_csv(folder / "shapley_values.csv")
    assert list(written["trick"]) == NAMES
    assert written["value"].sum() == pytest.approx(means[", ".join(NAMES)] - means["base"])
    assert (written["smallest"] <= written["value"]).all() and (written["value"] <= written["largest"]).all()
    assert len(json.loads((folder / "study.json").read_text())["orders"]) == math.factorial(3)
    assert "averaged over all 6 orders" in (folder / "table.md").read_text()


def test_an_ensemble_costs_what_all_its_trainings_cost(run):
    plan, folder, _ = run["pairs"]
    costs = pd.read_csv(folder / "costs.csv").set_index(["key", "seed"])
    lines = {line.name: line for line in read_table(folder).rows}
    base, ensemble = lines["base"], lines["seed_ensemble"]
    seconds = costs.loc[plan.rows[0].key]["seconds"]
    assert ensemble.seconds == pytest.approx(seconds.sum())
    assert ensemble.seconds_ratio == pytest.approx(seconds.sum() / seconds.mean())
    assert (base.n_trainings, ensemble.n_trainings) == (1, 2)
    assert ensemble.parameters == 2 * base.parameters
    assert ensemble.flops_per_image == 2 * base.flops_per_image > 0
    assert ensemble.peak_memory_mb == costs.loc[plan.rows[0].key]["peak_memory_mb"].max()


def test_what_a_test_costs_is_that_of_its_row_and_seed(run):
    plan, folder, _ = run["pairs"]
    written = pd.read_csv(folder / "inference_costs.csv").set_index(["row", "seed"])
    store = RunStore(folder.parent / "runs")
    for row in plan.rows[:3]:
        for seed in (0, 1):
            stored = store.folder(row.key, seed).score_costs(row.inference)
            assert written.loc[row.index, seed].to_dict() == pytest.approx(stored)
