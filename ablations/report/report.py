"""The report of a results folder, from its files to the page."""

from dataclasses import dataclass
from pathlib import Path

from ablations.errors import StoreError
from ablations.report.differences import row_recipes
from ablations.report.drawing import Drawing
from ablations.report.figure_list import Material, make_figures
from ablations.report.frames import seeds_frame
from ablations.report.latex import to_latex
from ablations.report.page import render_page
from ablations.report.pictures import read_pictures
from ablations.report.stored import read_stored
from ablations.results import read_study_record
from ablations.store import RunStore, write_text
from ablations.table import read_table


@dataclass(frozen=True, eq=False)
class Report:
    """A report that is not written yet.

    Args:
        page: the page, as HTML.
        latex: the table, as LaTeX.
        drawings: the figures.
    """

    page: str
    latex: str
    drawings: tuple[Drawing, ...]


def make_report(folder: Path, store: RunStore) -> Report:
    """Make the report of a results folder. The same files give the same report.

    The store may be absent; what needs it is left out then, and the page says so.

    Args:
        folder: `results/<study>`, after a run.
        store: the run store.

    Raises:
        StoreError: the study has not run yet, or its record is damaged.
        TableError: a file that the table needs is missing or damaged.
    """
    study = read_study_record(folder)
    if study is None:
        raise StoreError(f"{folder} holds no study yet. Run it first: ablate run {folder.name}.")
    table, seeds = read_table(folder), seeds_frame(folder)
    stored = read_stored(study["rows"], seeds, table.metric, store) if store.path.is_dir() else None
    material = Material(table, {record["index"]: record for record in study["rows"]}, seeds, stored)
    sections = make_figures(material)
    pictures = read_pictures(folder, {row.index for row in table.rows})
    page = render_page(material, sections, row_recipes(folder, table), pictures)
    return Report(page, to_latex(table), tuple(drawing for section in sections for drawing in section.drawings))


def write_report(folder: Path, store: RunStore) -> Path:
    """Write `report.html`, `table.tex` and `figures/` into a results folder and return the page's path.

    Args:
        folder: as for `make_report`.
        store: as for `make_report`.

    Raises:
        StoreError, TableError: as `make_report` does; nothing is written then.
    """
    report = make_report(folder, store)
    figures = {f"{drawing.name}{kind}" for drawing in report.drawings for kind in (".svg", ".png")}
    for path in (folder / "figures").glob("*"):
        if path.suffix in (".svg", ".png") and path.name not in figures:
            path.unlink()  # of an earlier report; now there is nothing to draw it from
    for drawing in report.drawings:
        drawing.write(folder / "figures")
    write_text(folder / "table.tex", report.latex)
    write_text(folder / "report.html", report.page)
    return folder / "report.html"
