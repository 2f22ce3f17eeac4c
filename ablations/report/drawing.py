"""From a matplotlib figure to files and to the page: the same input gives the same bytes.

In the page, colours become CSS variables, so that a figure follows the reader's light or dark, and every id gets the
figure's name in front, since ids are one space for a whole page.
"""

import io
import re
import warnings
from contextlib import AbstractContextManager
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

from ablations.report.figures.style import COLORS, RC

_DPI = 160
_SVG_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}


class Drawing:
    """A figure as SVG and, when it is written to files, PNG.

    Args:
        name: the stem of its files, and what its ids start with.
        figure: the figure, drawn under `figure_style`.
    """

    def __init__(self, name: str, figure: Figure) -> None:
        self.name = name
        self.figure = figure
        self.svg = _saved(figure, "svg").decode("utf-8")

    def write(self, folder: Path) -> None:
        """Write `<name>.svg` and `<name>.png`."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{self.name}.svg").write_text(self.svg, encoding="utf-8")
        (folder / f"{self.name}.png").write_bytes(_saved(self.figure, "png"))

    def inline(self, description: str) -> str:
        """Return the SVG as an element of an HTML page.

        Args:
            description: what it shows, for those who do not see it; it must be escaped already.
        """
        _, start, rest = self.svg.partition("<svg ")
        head, _, body = rest.partition(">")
        box = re.search(r'viewBox="([^"]*)"', head)
        body = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", body, flags=re.DOTALL)
        body = re.sub(r"<[^>]*>", self._own_tag, body)
        view = box.group(1) if box else ""
        width = view.split(" ")[2] if view else ""
        return (
            f'{start}role="img" aria-label="{description}" viewBox="{view}" style="--width: {width}px">{body.strip()}'
        )

    def _own_tag(self, match: re.Match[str]) -> str:
        """Rewrite a tag: own ids, CSS variables, hundredths of a pixel."""
        tag = re.sub(r'\bid="', f'id="{self.name}-', match.group())
        tag = re.sub(r'xlink:href="#', f'href="#{self.name}-', tag)
        tag = tag.replace("url(#", f"url(#{self.name}-")
        tag = re.sub(r"\d+\.\d{3,}", lambda number: f"{float(number.group()):.2f}".rstrip("0").rstrip("."), tag)
        return re.sub(r"#[0-9a-f]{6}", _variable, tag)


def figure_style() -> AbstractContextManager[None]:
    """Return the context in which figures are drawn."""
    return rc_context(RC)


def _variable(match: re.Match[str]) -> str:
    names = {value: name for name, value in COLORS.items()}
    found = names.get(match.group())
    return f"var(--{found})" if found else match.group()


def _saved(figure: Figure, kind: str) -> bytes:
    file = io.BytesIO()
    metadata = _SVG_METADATA if kind == "svg" else {"Software": None}
    with rc_context(RC), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # the browser has other fonts
        figure.savefig(file, format=kind, dpi=_DPI if kind == "png" else 72, metadata=metadata)
    return file.getvalue()
