import contextlib
import logging
import multiprocessing
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from datamodules import image_cache
from datamodules.image_cache import ImageCache, Made, warn_once


@pytest.fixture(autouse=True)
def _forget_warnings() -> None:
    warn_once.cache_clear()


def make_cache(tmp_path: Path, how: str = "plain") -> ImageCache:
    return ImageCache(tmp_path / "cache", tmp_path / "images", how)


def made(value: int) -> Made:
    return {"values": torch.tensor([value])}, {"note": str(value)}


def forbidden() -> Made:
    pytest.fail("made again")


def value_of(result: Made) -> int:
    assert result[1] == {"note": str(int(result[0]["values"]))}
    return int(result[0]["values"])


def test_what_was_made_is_found_again(tmp_path: Path) -> None:
    assert value_of(make_cache(tmp_path).get("a" * 16, lambda: made(3))) == 3
    assert value_of(make_cache(tmp_path).get("a" * 16, forbidden)) == 3
    assert make_cache(tmp_path).notes("a" * 16) == {"note": "3"}


def test_another_stamp_and_another_way_are_made_anew(tmp_path: Path) -> None:
    make_cache(tmp_path).get("a" * 16, lambda: made(1))
    assert make_cache(tmp_path).notes("b" * 16) is None
    assert value_of(make_cache(tmp_path, "other").get("a" * 16, lambda: made(2))) == 2
    assert value_of(make_cache(tmp_path).get("b" * 16, lambda: made(3))) == 3


def test_what_was_made_of_changed_files_is_removed_and_nothing_else(tmp_path: Path) -> None:
    make_cache(tmp_path, "other").get("a" * 16, lambda: made(1))
    for stamp, value in (("a" * 16, 2), ("b" * 16, 3)):
        make_cache(tmp_path).get(stamp, lambda value=value: made(value))
    assert make_cache(tmp_path).notes("a" * 16) is None
    assert make_cache(tmp_path, "other").notes("a" * 16) == {"note": "1"}


def test_a_cache_file_that_is_damaged_is_made_anew(tmp_path: Path) -> None:
    make_cache(tmp_path).get("a" * 16, lambda: made(1))
    (path,) = (tmp_path / "cache").glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:-3])
    assert value_of(make_cache(tmp_path).get("a" * 16, lambda: made(2))) == 2
    assert value_of(make_cache(tmp_path).get("a" * 16, forbidden)) == 2


def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        make_cache(tmp_path).get("a" * 16, lambda: made(1 // 0))
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".lock"]


def _get(folder: str, start: Any, others: Any, results: Any) -> None:
    makers = 0

    def make() -> Made:
        nonlocal makers
        makers += 1
        with contextlib.suppress(threading.BrokenBarrierError):
            others.wait(1)  # for another process that makes it too: there is none
        return made(7)

    start.wait()
    results.put((value_of(make_cache(Path(folder)).get("a" * 16, make)), makers))


def test_of_processes_that_start_at_once_one_makes_and_the_others_wait(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    start, others, results = context.Barrier(4), context.Barrier(2), context.Queue()
    processes = [context.Process(target=_get, args=(str(tmp_path), start, others, results)) for _ in range(4)]
    for process in processes:
        process.start()
    assert sorted(results.get(timeout=60) for _ in processes) == [(7, 0), (7, 0), (7, 0), (7, 1)]
    for process in processes:
        process.join(60)


def test_without_a_folder_to_write_to_work_goes_on_and_it_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cache").write_text("in the way, for administrators too")
    with caplog.at_level(logging.WARNING):
        assert [value_of(make_cache(tmp_path).get("a" * 16, lambda: made(5))) for _ in range(2)] == [5, 5]
    assert caplog.messages == [
        f"{tmp_path / 'cache'} cannot be written (File exists), so images are decoded anew by every process."
    ]


def test_a_full_disk_loses_nothing_that_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*arguments: object, **settings: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(image_cache, "save_file", full)
    calls = []
    assert value_of(make_cache(tmp_path).get("a" * 16, lambda: calls.append(1) or made(5))) == 5
    assert calls == [1] and "cannot be written (No space left on device)" in caplog.text
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".lock"]
