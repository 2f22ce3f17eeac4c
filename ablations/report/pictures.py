"""Pictures of the task in the results folder, such as images that were classified wrongly.

`ablations.picture_files` puts those of a row's first seed there; anybody may add others. The format: a folder
`pictures/` beside `scores.csv` with PNG files and a `pictures.json`,

    [{"file": "wrong-0007.png", "row": 7, "caption": "A 9, taken for a 4 by 8 of 10 seeds"}, ...]

`file` is a name in that folder, `caption` is plain text, and `row`, the number of the table's row that the picture
belongs to, may be absent. They are shown in the order of the list.
"""

import base64
import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablations.picture_files import LISTING, is_inside

MOST_BYTES = 2_000_000
"""What all pictures together may take, so that a page can still be sent by mail."""
_PNG_HEAD = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Picture:
    """A picture in the page.

    Args:
        source: the PNG as a data address.
        caption: plain text.
        row: the row that it belongs to, or None.
    """

    source: str
    caption: str
    row: int | None


def read_pictures(folder: Path, rows: Collection[int]) -> tuple[list[Picture], list[str]]:
    """Return the pictures of a results folder, and a sentence for whatever was left out.

    Args:
        folder: the results folder.
        rows: the numbers of the rows that there are.
    """
    listing = folder / "pictures" / LISTING
    try:
        entries = json.loads(listing.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return [], []
    except (OSError, ValueError):
        return [], ["pictures/pictures.json cannot be read, so there are no pictures."]
    if not isinstance(entries, list):
        return [], ["pictures/pictures.json holds no list, so there are no pictures."]
    pictures: list[Picture] = []
    left_out: list[str] = []
    size = 0
    for number, entry in enumerate(entries, start=1):
        data = _png(listing.parent, entry)
        if data is None:
            left_out.append(f"Entry {number} of pictures/pictures.json names no PNG file of that folder.")
        elif size + len(data) > MOST_BYTES:
            left_out.append(f"{len(entries) - number + 1} more pictures are left out: the page would grow too large.")
            break
        else:
            size += len(data)
            row = entry.get("row") if entry.get("row") in rows else None
            source = f"data:image/png;base64,{base64.b64encode(data).decode('ascii')}"
            pictures.append(Picture(source, str(entry.get("caption", "")), row))
    return pictures, left_out


def _png(folder: Path, entry: Any) -> bytes | None:
    """Return the bytes of the PNG that an entry names; None if it names none inside the folder."""
    name = entry.get("file") if isinstance(entry, dict) else None
    if not isinstance(name, str) or not is_inside(name):
        return None
    try:
        data = (folder / name).read_bytes()
    except (OSError, ValueError):
        return None
    return data if data.startswith(_PNG_HEAD) else None
