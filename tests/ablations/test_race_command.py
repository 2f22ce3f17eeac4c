"""A race from the command line: seeds go where something is open, and the table says who stopped when."""

import csv
import json

from tests.helpers.command_server import run_ablate
from tests.helpers.recipes import write_study


def test_a_race_stops_what_is_clear_and_goes_on_with_what_is_not(tmp_path):
    """A rate of nearly zero is a loss after three seeds; a change of nearly nothing is open to the end."""
    tricks = [
        {"slow": {"set": {"model.optimizer.lr": 1e-6}, "text": "Learn nothing."}},
        {"smooth": {"set": {"model.loss.label_smoothing": 0.001}, "text": "Smooth almost nothing."}},
    ]
    settings = {"trainer.max_epochs": 12, "trainer.check_val_every_n_epoch": 12, "model.network.width": 8}
    study = write_study(tmp_path, tricks=tricks, set=settings, mode="one-at-a-time")
    done = run_ablate(tmp_path, "run", study, "--until-decided", "--max-seeds", 4)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "results/small"
    assert json.loads((folder / "study.json").read_text())["race"] == {"max_seeds": 4, "first": 3, "effect": None}
    with (folder / "table.csv").open() as file:
        rows = {line["name"]: line for line in csv.DictReader(file)}
    seeds = {name: (int(line["done"]), int(line["missing"]), int(line["spared"])) for name, line in rows.items()}
    assert seeds == {"base": (4, 0, 0), "+ slow": (3, 0, 1), "+ smooth": (4, 0, 0)}
    assert rows["+ slow"]["verdict"] == "loss"
    assert rows["+ smooth"]["verdict"] == "undecided (after 4 seeds)"
    assert "Row 1 (+ slow): stopped after 3 of at most 4 seeds" in (folder / "table.md").read_text()
    trained = sorted(path.parent.name for path in tmp_path.glob("results/runs/*/*/result.json"))
    assert trained == sorted([*["seed-0", "seed-1", "seed-2"] * 3, *["seed-3"] * 2])
