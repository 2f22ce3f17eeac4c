"""The page, parsed as a browser would."""

import base64
import json
import math
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from ablations import commands
from ablations.cli import main
from ablations.errors import StoreError
from ablations.report import make_report, write_report
from ablations.report.cells import gain, score
from ablations.store import RunStore
from ablations.table import TableError, read_table
from tests.helpers.results_folder import plan_row, plan_rows, write_results, write_store

VOID = {"meta", "link", "img", "br", "hr", "input"}
FIGURES = {"waterfall", "published", "cost", "seeds", "curves-train-loss", "curves-val-accuracy", "classes"}
PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII=")


class Page(HTMLParser):
    """Collects what a page is made of; a tag that is not closed, or closed twice, is an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        if not {"script", "style"} & set(self.stack):
            self.texts.append(data)

    def values(self, attribute):
        return [attributes[attribute] for _, attributes in self.elements if attribute in attributes]

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


def report(folder: Path, store: Path | None = None) -> str:
    return make_report(folder, RunStore(store or folder.parent / "runs")).page


def whole(folder: Path, rows=None, seeds=3, **arguments) -> str:
    rows = plan_rows(3) if rows is None else rows
    write_results(folder / "small", rows, seeds, **arguments)
    write_store(folder / "runs", rows, seeds)
    return report(folder / "small")


def check(text: str) -> Page:
    """Check what holds for every page."""
    page = Page(text)
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    targets = [value for value in [*page.values("href"), *page.values("xlink:href")] if value != "data:,"]
    assert targets
    for target in targets:
        assert target.startswith("#")
        assert target[1:] in ids, target
    for value in page.values("aria-labelledby"):
        assert value in ids
    for source in page.values("src"):
        assert source.startswith("data:image/png;base64,")
    assert not {"link", "iframe", "object", "embed", "base", "form"} & {tag for tag, _ in page.elements} - {"link"}
    assert text.count("<script") == 1
    assert "http://" not in text
    assert "https://" not in text
    assert "url(" not in text.replace("url(#", "")
    return page


def test_a_page_has_all_its_parts(tmp_path):
    whole(tmp_path)
    page = check(write_report(tmp_path / "small", RunStore(tmp_path / "runs")).read_text(encoding="utf-8"))
    assert {"table", "waterfall", "published", "cost", "seeds", "curves", "classes", "recipes", "making"} <= set(
        page.values("id")
    )
    assert "Left out" not in page.text.replace("Left out: the results folder holds no pictures.", "")
    files = {path.name for path in (tmp_path / "small/figures").iterdir()}
    assert files == {f"{name}.{kind}" for name in FIGURES for kind in ("svg", "png")}
    assert "2 of 2 are gains" in page.text
    assert "ablate run small" in page.text


def test_the_table_of_the_page_is_that_of_the_study(tmp_path):
    page = check(whole(tmp_path, scores={(1, 0): "out of memory"}))
    table = read_table(tmp_path / "small")
    for row in table.rows:
        for words in [*score(table, row), *gain(table, row), row.name]:
            assert words in page.texts
    orders = list(page.values("data-order"))
    assert len(orders) == 9 * len(table.rows)
    assert orders[2] == repr(table.rows[0].score.estimate)
    assert "Row 1 (+ trick_1): 1 of 3 failed: out of memory (seed 0)" in page.text
    assert {f"row-{row.index}" for row in table.rows} <= set(page.values("id"))
    assert {f"recipe-{row.index}" for row in table.rows} <= set(page.values("id"))


def test_every_cost_that_the_notes_explain_has_a_column_that_sorts(tmp_path):
    write_results(tmp_path / "small", plan_rows(3))
    lines = ["row,seed,seconds,flops_per_image"]
    lines += [f"{row},{seed},{0.1 * (1 + row)},{1000000 * (1 + row)}" for row in range(3) for seed in range(5)]
    (tmp_path / "small/inference_costs.csv").write_text("\n".join(lines) + "\n")
    page = check(report(tmp_path / "small"))
    for name in ("seconds a training", "seconds a test", "FLOPs an image", "parameters"):
        assert name in page.texts
    for words in ("0.3", "(×1.50)", "3M"):
        assert words in page.texts
    orders = list(page.values("data-order"))
    assert len(orders) == 11 * 3
    assert (float(orders[8]), orders[9]) == (pytest.approx(0.1), "1000000.0")
    assert "Seconds a test are" in page.text and "FLOPs are those" in page.text


def test_a_verdict_is_worded_and_not_only_coloured(tmp_path):
    rows = plan_rows(4)
    text = whole(tmp_path, rows, 5, scores={(2, seed): 0.8 + 0.01 * seed for seed in range(5)})
    for row in read_table(tmp_path / "small").rows[1:]:
        word = row.verdict.partition(" (")[0]
        assert f'<td class="{word}" ' in text
        assert f"<span>{word}</span>" in text


def test_every_text_is_escaped(tmp_path):
    bad = '<script>alert("1")</script> & $x$ {{ 7 * 7 }}'
    rows = [plan_row(0, bad, text=bad), plan_row(1, f"+ {bad}", text=bad, trick=bad)]
    scores = {(1, 0): f"{bad} happened"}
    head = {"command": bad, "commit": bad, "versions": {bad: bad}, "hardware": bad, "date": bad}
    page = check(
        whole(tmp_path, rows, 3, scores=scores, name=bad, head=head, reference={"source": bad, "unconfirmed": False})
    )
    assert page.text.count(bad) > 10
    assert f"1 of 1 are gains: {bad} (+" in page.text.replace("is a gain", "are gains")


def test_what_each_row_changes_is_shown(tmp_path):
    page = check(whole(tmp_path))
    assert "model.loss.smoothing: 0.0 -> 0.1" in page.text
    assert "model.loss.name: 'base' -> '+ trick_1'" in page.text
    assert "ablate fit recipes/02-row.yaml" in page.text


@pytest.mark.parametrize("damage", ["missing", "broken"])
def test_a_recipe_that_cannot_be_read_is_said(tmp_path, damage):
    folder = write_results(tmp_path / "small")
    path = folder / "recipes/01-row.yaml"
    path.unlink() if damage == "missing" else path.write_text("a: [1")
    page = check(report(folder))
    assert page.text.count("Its recipe is not in the results folder, or cannot be read.") == 2  # row 2 is compared to 1


def test_without_a_store_the_page_says_what_is_left_out(tmp_path):
    folder = write_results(tmp_path / "small")
    page = check(report(folder))
    assert page.text.count("Left out: The run store is not there, and these are made from it.") == 2


def test_a_figure_that_cannot_be_drawn_any_more_goes(tmp_path):
    folder = write_results(tmp_path / "small")
    (folder / "figures").mkdir()
    for name in ("classes.svg", "classes.png", "notes.txt"):
        (folder / "figures" / name).touch()
    write_report(folder, RunStore(tmp_path / "runs"))
    kept = {path.name for path in (folder / "figures").iterdir()}
    assert "waterfall.svg" in kept
    assert "notes.txt" in kept
    assert not {"classes.svg", "classes.png"} & kept


def test_a_damaged_learning_curve_is_named(tmp_path):
    whole(tmp_path)
    broken = tmp_path / "runs" / plan_rows(3)[1]["key"] / "seed-0/metrics.csv"
    broken.write_text("epoch\n1,2\n")
    page = check(report(tmp_path / "small"))
    assert f"runs/{broken.parent.parent.name}/seed-0/metrics.csv cannot be read" in page.text


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"seeds": 1}, "there is one seed only, and chance is not told from effect"),
        ({"rows": plan_rows(1)}, "The base recipe reaches 80.03 %. There is no trick to compare it with."),
        ({"scores": {(row, seed): None for row in range(3) for seed in range(3)}}, "no training has finished"),
        ({"scores": {(row, seed): "diverged" for row in range(3) for seed in range(3)}}, "no training has finished"),
        ({"scores": {(row, seed): 0.9 for row in range(3) for seed in range(3)}}, "None of 2 is shown to be a gain"),
        ({"scores": {(2, 0): math.nan, (2, 1): "out of memory", (0, 2): None}}, "cannot be judged"),
        ({"costs": False}, "2 of 2 are gains"),
        ({"mode": "one-at-a-time"}, "each added to the base alone?"),
        ({"higher_is_better": False, "unit": "", "scale": 1.0}, "None of 2 is shown to be a gain; 2 are losses"),
        ({"rows": [plan_row(0, "base"), plan_row(1, "+ trick_1")]}, "Does this trick improve test/accuracy?"),
    ],
    ids=lambda value: "" if isinstance(value, dict) else value,
)
def test_every_kind_of_study_has_a_page(tmp_path, arguments, sentence):
    page = check(whole(tmp_path, **arguments))
    assert sentence in page.text


def test_a_seed_that_is_not_finite_is_a_failed_one(tmp_path):
    page = check(whole(tmp_path, scores={(1, 1): math.nan}))
    assert "test/accuracy is not a finite number (seed 1)" in page.text


def test_a_study_that_has_not_run_is_said_in_a_sentence(tmp_path):
    with pytest.raises(StoreError, match=r"digits holds no study yet. Run it first: ablate run digits\.$"):
        write_report(tmp_path / "digits", RunStore(tmp_path / "runs"))


@pytest.fixture
def ablate(tmp_path, monkeypatch, capsys):
    """Run the command line in this process, and return its exit code and what it printed."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        for name in ("out", "err"):  # rich binds its stream when it is made
            monkeypatch.setattr(getattr(commands, name), "_file", None)
        code = main(list(arguments))
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


def test_the_command_line_writes_the_report_and_prints_where_it_is(ablate, tmp_path):
    write_results(tmp_path / "results/small")
    code, out, _ = ablate("report", "small")
    assert (code, out) == (0, "results/small/report.html\n")
    assert (tmp_path / "results/small/report.html").is_file()
    assert r"\begin{table}" in (tmp_path / "results/small/table.tex").read_text()


def test_the_report_of_another_mode_lies_in_its_folder(ablate, tmp_path):
    write_results(tmp_path / "results/digits/one-at-a-time", mode="one-at-a-time")
    code, out, _ = ablate("report", "digits", "--mode", "one-at-a-time")
    assert (code, out) == (0, "results/digits/one-at-a-time/report.html\n")


def test_the_command_line_says_that_a_study_has_not_run(ablate):
    code, out, err = ablate("report", "digits")
    assert (code, out) == (2, "")
    assert err == "ablate: results/digits holds no study yet. Run it first: ablate run digits.\n"


def test_a_record_that_cannot_be_read_is_said(tmp_path):
    (tmp_path / "study.json").write_text("{")
    with pytest.raises(StoreError, match="cannot be read"):
        write_report(tmp_path, RunStore(tmp_path / "runs"))


def test_scores_that_are_missing_are_said(tmp_path):
    folder = write_results(tmp_path / "small")
    (folder / "scores.csv").unlink()
    with pytest.raises(TableError, match="there is no such file"):
        write_report(folder, RunStore(tmp_path / "runs"))


def test_the_same_files_give_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        whole(tmp_path / name)
        write_report(tmp_path / name / "small", RunStore(tmp_path / name / "runs"))
    files = [path.relative_to(tmp_path / "one/small") for path in (tmp_path / "one/small").rglob("*") if path.is_file()]
    assert len(files) > 15
    for file in files:
        assert (tmp_path / "one/small" / file).read_bytes() == (tmp_path / "two/small" / file).read_bytes()


def test_pictures_are_shown_with_their_captions(tmp_path):
    folder = write_results(tmp_path / "small")
    (folder / "pictures").mkdir()
    (folder / "pictures/a.png").write_bytes(PNG)
    (folder / "outside.png").write_bytes(PNG)
    (folder / "pictures/b.png").write_text("no picture")
    entries = [
        {"file": "a.png", "row": 1, "caption": "A <9>, taken for a 4"},
        {"file": "a.png", "row": 99, "caption": "no such row"},
        {"file": "../outside.png", "caption": "x"},
        {"file": "b.png", "caption": "x"},
        {"file": "gone.png"},
        "nothing",
    ]
    (folder / "pictures/pictures.json").write_text(json.dumps(entries))
    text = report(folder)
    page = check(text)
    assert text.count("data:image/png") == 2
    assert base64.b64encode(PNG).decode() in text
    assert "A <9>, taken for a 4" in page.text
    for number in (3, 4, 5, 6):
        assert f"Entry {number} of pictures/pictures.json names no PNG file of that folder." in page.text


@pytest.mark.parametrize(("content", "words"), [("{", "cannot be read"), ('{"a": 1}', "holds no list")])
def test_pictures_that_cannot_be_read_are_said(tmp_path, content, words):
    folder = write_results(tmp_path / "small")
    (folder / "pictures").mkdir()
    (folder / "pictures/pictures.json").write_text(content)
    assert words in check(report(folder)).text


def test_pictures_that_would_make_the_page_too_large_are_counted(tmp_path):
    folder = write_results(tmp_path / "small")
    (folder / "pictures").mkdir()
    (folder / "pictures/a.png").write_bytes(PNG + bytes(900_000))
    (folder / "pictures/pictures.json").write_text(json.dumps([{"file": "a.png", "caption": "a"}] * 5))
    text = report(folder)
    assert text.count("data:image/png") == 2
    assert "3 more pictures are left out" in text


def test_a_report_is_made_from_the_results_that_come_along(tmp_path):
    folder = tmp_path / "digits"
    shutil.copytree(Path(__file__).parents[3] / "results/digits", folder)
    page = check(report(folder))
    table = read_table(folder)
    assert len(table.rows) > 1
    for row in table.rows:
        assert row.name in page.texts
    assert "Its recipe is not" not in page.text
