"""Learning-rate searches in studies: before the trainings, once for all seeds, without a trace in them."""

import pytest
from safetensors.torch import load_file

from ablations.errors import StudyError
from ablations.executors import Finished, run_inline
from ablations.plan import is_search, row_changes
from ablations.planner import load_plan, single_training
from ablations.recipe import Recipe
from ablations.results import write_study as write_results
from ablations.store import RunStore
from ablations.yaml_file import dump_yaml, read_mapping
from tests.helpers.command_server import run_ablate
from tests.helpers.recipes import write_study

SETTINGS = {"trainer.max_epochs": 10, "trainer.check_val_every_n_epoch": 10, "model.network.width": 4}
TRICKS = [{"lr_finder": {"steps": 30}}, "label_smoothing"]


def plan_of(folder, store, **changes):
    return load_plan(write_study(folder, **{"tricks": TRICKS, "set": SETTINGS, **changes}), store=store)


def run(trainings):
    """Run trainings and return why they failed."""
    return [event.reason for event in run_inline(trainings, 1) if isinstance(event, Finished) and event.reason]


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """The plans of a study before and after its search, and the store."""
    folder = tmp_path_factory.mktemp("search")
    store = RunStore(folder / "runs")
    before = plan_of(folder, store)
    assert run(list(before.searches)) == []
    return before, plan_of(folder, store), store


def test_a_search_comes_first_and_once(searched):
    before, after, store = searched
    (search,) = before.searches
    assert search.seed == 0
    assert [is_search(row.recipe) for row in before.rows] == [False, True, True]
    assert {training.key for training in before.trainings(store)} == {before.rows[0].key}
    assert after.searches == ()
    assert [is_search(row.recipe) for row in after.rows] == [False, False, False]


def test_what_was_found_is_all_that_the_row_changes(searched):
    after = searched[1]
    (change,) = row_changes(after, after.rows[1])
    assert change.path == "model.optimizer.lr"
    assert change.old == 0.1
    assert 1e-3 < change.new < 1
    (change,) = row_changes(after, after.rows[2])
    assert change.path == "model.loss.label_smoothing"


def test_the_row_trains_as_a_recipe_with_that_rate_trains(searched, tmp_path):
    _, after, store = searched
    plain = Recipe(after.rows[0].recipe)
    plain.set("model.optimizer.lr", Recipe(after.rows[1].recipe).get("model.optimizer.lr"))
    (tmp_path / "recipe.yaml").write_text(dump_yaml(plain.config))
    training = single_training(tmp_path / "recipe.yaml", {}, 0, RunStore(tmp_path))
    row = after.trainings(store, rows=[1])[0]
    assert training.key == row.key
    assert run([training, row]) == []
    alone, in_study = (load_file(each.folder / "weights" / "last.safetensors") for each in (training, row))
    assert all(alone[name].equal(in_study[name]) for name in alone)


def test_search_and_picture_stand_beside_the_table(searched, tmp_path):
    _, after, store = searched
    write_results(tmp_path, after, store, {})
    assert sorted(path.name for path in (tmp_path / "lr_search").iterdir()) == ["01-lr-finder.json", "01-lr-finder.png"]
    assert (tmp_path / "lr_search" / "01-lr-finder.png").read_bytes().startswith(b"\x89PNG")
    recipe = read_mapping(tmp_path / "recipes" / "01-lr-finder.yaml", "recipe")
    assert not is_search(recipe)


def test_a_search_that_finds_nothing_fails_with_a_sentence(tmp_path):
    store = RunStore(tmp_path / "runs")
    plan = plan_of(tmp_path, store, tricks=[{"lr_finder": {"steps": 20, "min_lr": 1e-12, "max_lr": 1e-11}}])
    (reason,) = run(list(plan.searches))
    assert "the loss does not fall anywhere" in reason
    again = plan_of(tmp_path, store, tricks=[{"lr_finder": {"steps": 20, "min_lr": 1e-12, "max_lr": 1e-11}}])
    assert len(again.searches) == 1


def test_a_run_shorter_than_the_search_is_refused_with_a_sentence(tmp_path):
    plan = plan_of(tmp_path, RunStore(tmp_path / "runs"), tricks=["lr_finder"])
    (reason,) = run(list(plan.searches))
    assert "the search takes 100 optimizer steps, but the whole run has only 40" in reason


def test_a_later_trick_may_not_silently_set_the_rate_that_was_searched(tmp_path, searched):
    tricks = [*TRICKS[:1], {"faster": {"set": {"model.optimizer.lr": 0.5}}}]
    for place in (searched[2], RunStore(tmp_path / "empty")):
        with pytest.raises(StudyError, match=r"'faster' and 'lr_finder' both set 'model\.optimizer\.lr'"):
            plan_of(tmp_path, place, tricks=tricks)


def test_the_commands_search_first_and_say_so(tmp_path):
    write_study(tmp_path, tricks=TRICKS, set=SETTINGS, seeds=1)
    planned = run_ablate(tmp_path, "plan", "study.yaml")
    assert "after a search" in planned.stdout
    assert "wait for 1 learning-rate search;" in planned.stdout.replace("\n", " ")
    ran = run_ablate(tmp_path, "run", "study.yaml")
    assert ran.returncode == 0, ran.stderr
    assert "Searched a learning rate" in ran.stderr
    assert "label_smoothing" in ran.stdout
    again = run_ablate(tmp_path, "run", "study.yaml")
    assert "3 of 3 trainings are in" in again.stderr
    assert "Searched" not in again.stderr


def test_fit_searches_in_a_process_of_its_own_and_trains_with_what_it_found(tmp_path):
    base = plan_of(tmp_path, RunStore(tmp_path)).rows[0].recipe
    recipe = Recipe(base)
    recipe.add("trainer.callbacks", "callbacks.LRFinder", steps=30)
    (tmp_path / "recipe.yaml").write_text(dump_yaml(recipe.config))
    ran = run_ablate(tmp_path, "fit", "recipe.yaml")
    assert ran.returncode == 0, ran.stderr
    assert "test/accuracy" in ran.stdout
    stored = [read_mapping(path, "recipe") for path in (tmp_path / "results" / "runs").rglob("recipe.yaml")]
    assert sorted(is_search(each) for each in stored) == [False, True]
