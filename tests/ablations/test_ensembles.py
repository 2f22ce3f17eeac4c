"""Rows that are made of other rows: ensembles, and recipes that read another row's weights."""

import csv
import json

import numpy as np
import pytest

from ablations.errors import StudyError
from ablations.executors import Finished, run_inline
from ablations.plan import group_leaders
from ablations.planner import load_plan, single_training, with_ensemble
from ablations.references import Need, references, replace_references
from ablations.results import gather
from ablations.results import write_study as write_results
from ablations.store import RunFolder, RunStore
from tests.helpers.recipes import write_study

VOTING = {"soft_voting": {"members": ["label_smoothing"]}}
TRICKS = ["label_smoothing", VOTING, {"seed_ensemble": {"members": 2}}]


def plan_of(folder, **changes):
    return load_plan(write_study(folder, **{"mode": "one-at-a-time", "tricks": TRICKS, **changes}))


def problems(folder, **changes):
    with pytest.raises(StudyError) as error:
        plan_of(folder, **changes)
    return str(error.value)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study of ensembles that has run: its plan, its store and its results folder."""
    folder = tmp_path_factory.mktemp("ensembles")
    tricks = [
        "label_smoothing",
        VOTING,
        {"seed_ensemble": {"members": 2}},
        {"stacking": {"members": ["label_smoothing"]}},
        {"feature_fusion": {"members": ["label_smoothing"]}},
    ]
    plan = plan_of(folder, tricks=tricks, seeds=3, set={"trainer.max_epochs": 2, "model.network.width": 4})
    store = RunStore(folder / "runs")
    ended = [event for event in run_inline(plan.trainings(store), jobs=1) if isinstance(event, Finished)]
    assert [event.reason for event in ended if event.reason] == []
    results = folder / "results"
    write_results(results, plan, store, {})
    gather(results, store)
    return plan, store, results


def predictions(store, key, seed, name):
    with np.load(store.folder(key, seed).predictions(name)) as file:
        return file["probabilities"], file["targets"]


def test_ensembles_train_nothing_of_their_own(tmp_path):
    plan = plan_of(tmp_path, seeds=4)
    trainings = plan.trainings(RunStore(tmp_path))
    trained = {(training.key, training.seed) for training in trainings if not training.is_ensemble}
    assert len(trained) == 2 * 4
    assert len([training for training in trainings if training.is_ensemble]) == 4 + 2


def test_each_comes_after_what_it_needs(tmp_path):
    seen = set()
    for training in plan_of(tmp_path, seeds=4).trainings(RunStore(tmp_path)):
        assert set(training.needs) <= seen
        seen |= {Need(training.key, training.seed, name) for name in training.scorings}


def test_a_row_alone_brings_what_it_needs(tmp_path):
    plan = plan_of(tmp_path, seeds=2)
    trainings = plan.trainings(RunStore(tmp_path), rows=[2])
    assert {training.key for training in trainings} == {plan.rows[0].key, plan.rows[1].key}


def test_soft_voting_scores_the_mean_of_what_was_stored(study):
    plan, store, _ = study
    base, smooth, vote = plan.rows[:3]
    for seed in range(3):
        members = [predictions(store, row.key, seed, row.inference) for row in (base, smooth)]
        mean = np.mean([probabilities for probabilities, _ in members], axis=0)
        targets = members[0][1]
        score = store.folder(vote.key, seed).score(vote.inference)
        assert score["test/accuracy"] == pytest.approx((mean.argmax(1) == targets).mean(), abs=1e-6)
        loss = -np.log(mean[np.arange(len(targets)), targets]).mean()
        assert score["test/loss"] == pytest.approx(loss, rel=1e-5)
        np.testing.assert_allclose(predictions(store, vote.key, seed, vote.inference)[0], mean, atol=1e-6)


def test_an_ensemble_over_seeds_has_a_score_for_each_disjoint_group(study):
    plan, store, results = study
    row = plan.rows[3]
    mean = np.mean([predictions(store, row.key, seed, "last")[0] for seed in (0, 1)], axis=0)
    np.testing.assert_allclose(predictions(store, row.key, 0, row.inference)[0], mean, atol=1e-6)
    with (results / "scores.csv").open() as file:
        lines = [line for line in csv.DictReader(file) if line["row"] == "3"]
    assert [(line["seed"], line["status"]) for line in lines] == [("0", "done")]


def test_second_level_learners_see_the_images_that_they_may_see(study):
    plan, store, _ = study
    stacked, fused = plan.rows[4:]
    for row, member_files in ((stacked, "last-val"), (fused, "last-train-features")):
        for key in (plan.rows[0].key, plan.rows[1].key):
            assert store.folder(key, 0).predictions(member_files).exists()
        assert 0 < store.folder(row.key, 0).score(row.inference)["test/accuracy"] <= 1
    with np.load(store.folder(plan.rows[0].key, 0).predictions("last-val")) as file:
        assert file["probabilities"].shape == (200, 10)
        assert np.bincount(file["targets"]).tolist() == [20] * 10
    with np.load(store.folder(plan.rows[0].key, 0).predictions("last-train-features")) as file:
        assert file["features"].shape == (100, 16)


def test_the_cost_of_an_ensemble_is_that_of_its_members(study):
    plan, store, _ = study
    base, smooth, vote = plan.rows[:3]
    flops = [store.folder(row.key, 0).score_costs(row.inference)["flops_per_image"] for row in (base, smooth, vote)]
    assert flops[2] == flops[0] + flops[1] > 0


def test_an_exported_ensemble_runs_alone_where_its_members_are_stored(study, tmp_path):
    _, store, results = study
    training = single_training(results / "recipes" / "02-soft-voting.yaml", {}, None, store)
    assert [part.is_done() for part in with_ensemble(training)] == [True, True]
    elsewhere = single_training(results / "recipes" / "02-soft-voting.yaml", {}, None, RunStore(tmp_path))
    ended = [event for event in run_inline(with_ensemble(elsewhere), 1) if isinstance(event, Finished)]
    assert ended[0].reason == ""
    assert "which" in ended[1].reason and "does not hold. Run the study that it comes from" in ended[1].reason


def test_a_failed_member_fails_the_ensemble_with_its_reason(tmp_path, monkeypatch):
    plan = plan_of(tmp_path, seeds=1, tricks=["label_smoothing", VOTING])
    store = RunStore(tmp_path / "runs")

    def fail(training, threads, wait):
        if training.key == plan.rows[1].key:
            RunFolder(training.folder).write_status("failed", "out of memory")
            raise SystemExit(1)

    monkeypatch.setattr("ablations.training.run_and_record", fail)
    reasons = [event.reason for event in run_inline(plan.trainings(store), 1) if isinstance(event, Finished)]
    assert reasons[:2] == ["", "out of memory"]
    assert reasons[2].endswith("which failed: out of memory")
    assert store.folder(plan.rows[2].key, 0).status() | {"pid": 0} == {
        "state": "failed",
        "reason": reasons[2],
        "pid": 0,
    }


def test_a_mistake_is_one_sentence(tmp_path):
    assert "builds on 'label_smothing', which is no row of the study. Did you mean 'label_smoothing'" in problems(
        tmp_path, tricks=["label_smoothing", {"soft_voting": {"members": ["label_smothing"]}}]
    )
    assert "has a member twice" in problems(tmp_path, tricks=[{"soft_voting": {"members": ["base"]}}])
    assert "which is an ensemble itself" in problems(
        tmp_path, tricks=["label_smoothing", VOTING, {"voting": {"members": ["soft_voting"]}}]
    )
    assert "makes each score out of 5 consecutive seeds, but the study has the seeds 0, 1" in problems(
        tmp_path, tricks=["seed_ensemble"]
    )


def test_rows_that_build_on_each_other_are_refused(tmp_path):
    voting = [{"soft_voting": {"members": ["voting"]}}, {"voting": {"members": ["soft_voting"]}}]
    assert "build on each other" in problems(tmp_path, tricks=voting)


@pytest.mark.parametrize(
    ("seeds", "group", "leaders"),
    [
        ([0, 1, 2, 3, 4], 1, [0, 1, 2, 3, 4]),
        ([0, 1, 2, 3, 4], 2, [0, 2]),
        ([4, 0, 1, 3], 2, [0, 3]),
        ([0, 2, 4], 2, []),
    ],
)
def test_groups_of_seeds_are_disjoint_and_consecutive(seeds, group, leaders):
    assert group_leaders(seeds, group) == leaders


def test_references_are_found_and_replaced_wherever_they_stand():
    recipe = {"model": {"init_args": {"weights": "training:ab/last", "other": ["row:x", 3, None]}}}
    assert list(references(recipe, "training:")) == ["training:ab/last"]
    replaced = replace_references(recipe, "row:", lambda text: text.upper())
    assert replaced == {"model": {"init_args": {"weights": "training:ab/last", "other": ["ROW:X", 3, None]}}}


def test_a_study_that_was_scored_before_scores_its_ensembles_from_what_is_there(study):
    plan, store, _ = study
    row = plan.rows[2]
    folder = store.folder(row.key, 1)
    before = json.loads((folder.path / "scores" / f"{row.inference}.json").read_text())["metrics"]
    result = (folder.path / "result.json").stat().st_mtime_ns
    (folder.path / "scores" / f"{row.inference}.json").unlink()
    waiting = [training for training in plan.trainings(store) if not training.is_done()]
    assert [(training.seed, training.is_ensemble) for training in waiting] == [(1, True)]
    list(run_inline(waiting, 1))
    assert folder.score(row.inference) == before
    assert (folder.path / "result.json").stat().st_mtime_ns == result


def test_what_was_gathered_stays_where_the_store_holds_nothing_more(study, tmp_path):
    _, store, results = study
    before = {path.name: path.read_bytes() for path in results.glob("*.csv")}
    gather(results, RunStore(tmp_path / "empty"))
    assert {path.name: path.read_bytes() for path in results.glob("*.csv")} == before
    gather(results, store)
    assert {path.name: path.read_bytes() for path in results.glob("*.csv")} == before


def test_a_student_is_trained_with_the_weights_of_another_row(tmp_path):
    wide = {"wide": {"set": {"model.network.width": 6}}}
    plan = plan_of(tmp_path, tricks=[wide, {"distillation": {"teacher": "row:wide"}}], seeds=1)
    store = RunStore(tmp_path / "runs")
    ended = [event for event in run_inline(plan.trainings(store), 1) if isinstance(event, Finished)]
    assert [event.reason for event in ended] == ["", "", ""]
    exported = "training:" + plan.rows[1].key in store.folder(plan.rows[2].key, 0).recipe.read_text()
    assert exported
