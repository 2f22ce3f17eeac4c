"""Pictures of the task as files: in the folder of a training, and, by row, in the results folder of a study.

Both are a folder of PNG files with a `pictures.json`, whose format `ablations.report.pictures` describes. In a results
folder an entry has `key` and `inference`, too: what was trained and how it was scored. Entries without them were put
there by someone else, and stay.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablations.store import RunStore, write_json

if TYPE_CHECKING:
    from lit_modules.pictures import TaskPicture

LISTING = "pictures.json"
MOST_PICTURES = 8
"""How many pictures a row has at most."""


def save_pictures(folder: Path, pictures: Sequence["TaskPicture"]) -> None:
    """Write pictures into a folder, the listing last.

    Args:
        folder: made if there is something to write.
        pictures: in their order.
    """
    from PIL import Image  # only where there are pictures

    entries = []
    for number, picture in enumerate(pictures, start=1):
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{number}.png"
        Image.fromarray(picture.image.permute(1, 2, 0).numpy()).save(folder / name, optimize=True)
        entries.append({"file": name, "caption": picture.caption})
    if entries:
        write_json(folder / LISTING, entries)


def read_listing(folder: Path) -> list[dict[str, Any]]:
    """Return the entries of a folder of pictures whose files are there; none if there is nothing that can be read."""
    try:
        entries = json.loads((folder / LISTING).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    named = [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    files = [entry for entry in named if isinstance(entry.get("file"), str) and is_inside(entry["file"])]
    return [entry for entry in files if (folder / entry["file"]).is_file()]


def is_inside(name: str) -> bool:
    """Return whether a listing's `file` is the name of a file in the listing's own folder."""
    return name not in ("", ".", "..") and Path(name).name == name and "\0" not in name


def gather_pictures(folder: Path, rows: Iterable[dict[str, Any]], seed: int, store: RunStore) -> None:
    """Put the pictures of each row into `pictures/` of a results folder.

    What was gathered before stays where the store holds nothing of that training.

    Args:
        folder: the results folder.
        rows: of `study.json`.
        seed: the seed whose trainings have pictures: the study's first.
        store: the run store.
    """
    target = folder / "pictures"
    before = read_listing(target)
    entries, contents = [], {}
    for row in rows:
        identity = {"key": row["key"], "inference": row["inference"]}
        source = store.folder(row["key"], seed).pictures(row["inference"])
        found = read_listing(source)
        if not found:
            source, found = target, _of_one_row([entry for entry in before if identity.items() <= entry.items()])
        for number, entry in enumerate(found, start=1):
            name = f"row-{row['index']:02d}-{number}.png"
            contents[name] = (source / entry["file"]).read_bytes()
            entries.append({"file": name, "row": row["index"], "caption": entry.get("caption", ""), **identity})
    ours = {entry["file"] for entry in before if "key" in entry}
    entries += [entry for entry in before if entry["file"] not in ours | contents.keys()]
    if not before and not entries:
        return
    target.mkdir(exist_ok=True)
    for name, content in contents.items():
        (target / name).write_bytes(content)
    write_json(target / LISTING, entries)
    for name in ours - contents.keys():
        (target / name).unlink()


def _of_one_row(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the entries of the first row among some: rows that share a score have the same pictures."""
    return [entry for entry in entries if entry.get("row") == entries[0].get("row")]
