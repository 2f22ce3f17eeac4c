"""Reads what W&B's client left on the disk: a `.wandb` file is a log of protobuf records, in LevelDB's log format."""

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record

FILE_HEADER, BLOCK, PART_HEADER = 7, 32 * 1024, 7
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


@dataclass
class StoredRun:
    """One run, as its file tells it.

    Args:
        run: its record: id, name, group, tags, job type, project.
        config: by name, all updates applied.
        history: the logged lines, without those that the client adds.
        summary: all updates applied.
        axes: by pattern of metrics: the metric on its x axis.
        exit_code: with which it ended; `None` if it did not.
        artifacts: the names of its artifacts.
    """

    run: Any = None
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    axes: dict[str, str] = field(default_factory=dict)
    exit_code: int | None = None
    artifacts: dict[str, list[str]] = field(default_factory=dict)


def stored_runs(folder: Path) -> list[StoredRun]:
    """Return the runs whose files lie under a folder, the oldest first."""
    return [_read_run(path) for path in sorted(folder.rglob("run-*.wandb"), key=lambda path: path.stat().st_ctime_ns)]


def _read_run(path: Path) -> StoredRun:
    stored = StoredRun()
    for record in _records(path.read_bytes()):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            stored.run = record.run
            stored.config |= _items(record.run.config.update)
        elif kind == "config":
            stored.config |= _items(record.config.update)
        elif kind == "history":
            line = _items(record.history.item)
            stored.history.append({name: value for name, value in line.items() if not name.startswith("_")})
        elif kind == "summary":
            stored.summary |= _items(record.summary.update)
        elif kind == "metric":
            stored.axes[record.metric.glob_name or record.metric.name] = record.metric.step_metric
        elif kind == "exit":
            stored.exit_code = record.exit.exit_code
        elif kind == "artifact":
            paths = [entry.path for entry in record.artifact.manifest.contents]
            stored.artifacts[record.artifact.name] = sorted(paths)
    return stored


def _items(items: Any) -> dict[str, Any]:
    return {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items}


def _records(data: bytes) -> Iterator[Record]:
    assert data[:4] == b":W&B"
    position, collected = FILE_HEADER, b""
    while position + PART_HEADER <= len(data):
        left = BLOCK - position % BLOCK
        if left < PART_HEADER:
            position += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, position)
        position += PART_HEADER
        collected = (b"" if kind in (FULL, FIRST) else collected) + data[position : position + length]
        position += length
        if kind in (FULL, LAST):
            record = Record()
            record.ParseFromString(collected)
            yield record
