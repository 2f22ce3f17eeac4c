import json
import multiprocessing
import os

import pytest

from ablations.errors import StoreError
from ablations.store import RunFolder, RunStore, make_writable, write_text


def finished(folder):
    folder.write_score("last", {"test/accuracy": 0.5}, {"seconds": 1.0})
    folder.write_result({"seconds": 1.0})
    return folder


def test_a_training_is_done_when_its_result_and_its_scores_can_be_read(tmp_path):
    folder = RunStore(tmp_path).folder("abc", 3)
    assert folder.path == tmp_path / "abc" / "seed-3"
    assert folder.missing(["last"]) == ["last"]
    folder.write_score("last", {"test/accuracy": 0.5}, {})
    assert folder.missing(["last"]) == ["last"]
    finished(folder)
    assert folder.missing(["last"]) == []
    assert folder.missing(["last", "last-1234"]) == ["last-1234"]
    assert folder.score("last") == {"test/accuracy": 0.5}


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"metrics": 3}', '{"state": "done"}'])
@pytest.mark.parametrize("name", ["result.json", "scores/last.json"])
def test_a_file_that_cannot_be_read_counts_as_missing_and_is_named(tmp_path, name, text):
    folder = finished(RunFolder(tmp_path))
    (tmp_path / name).write_text(text)
    assert folder.missing(["last"]) == ["last"]
    assert folder.corrupt(["last"]) == [tmp_path / name]


def test_a_half_written_file_is_never_seen(tmp_path, monkeypatch):
    path = tmp_path / "file.txt"
    write_text(path, "whole")
    monkeypatch.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        write_text(path, "half")
    assert path.read_text() == "whole"
    assert [item.name for item in tmp_path.iterdir()] == ["file.txt"]


def _add_one(path, times):
    folder = RunFolder(path)
    for _ in range(times):
        with folder.lock():
            counter = path / "counter.json"
            count = json.loads(counter.read_text()) if counter.exists() else 0
            counter.write_text(json.dumps(count + 1))


def test_a_folder_has_one_writer_at_a_time(tmp_path):
    processes = [multiprocessing.get_context("spawn").Process(target=_add_one, args=(tmp_path, 200)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert json.loads((tmp_path / "counter.json").read_text()) == 400


def test_a_folder_that_is_a_file_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot be written: .*Choose another folder with --results"):
        make_writable(tmp_path / "file" / "results")
