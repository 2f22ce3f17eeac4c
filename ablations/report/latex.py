"""The table for a paper: LaTeX with booktabs, in the words of `table.md`.

A fragment for `\\input`, which compiles with pdfLaTeX, XeLaTeX and LuaLaTeX alike: whatever is not ASCII becomes a
command.
"""

import unicodedata

from ablations.report import cells
from ablations.table import Table, TableRow

LONG_FROM = 40
"""Rows from which the table may break over pages, which a floating one cannot."""
_COLUMNS = "rlrrrlrr"
_FITTED = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"
"""Makes what follows as wide as the text, where it is wider."""
_SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "_": r"\_", "%": r"\%",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': "''", "`": r"\textasciigrave{}",
    "[": "{[}", "]": "{]}", "±": r"$\pm$", "×": r"$\times$", "–": "--", "—": "---", "…": r"\dots{}", "−": "$-$",
    "²": r"$^2$", "→": r"$\rightarrow$", "≤": r"$\leq$", "≥": r"$\geq$", "ß": r"\ss{}",
}  # fmt: skip
_ACCENTS = {"\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0308": '"', "\u0327": "c", "\u030c": "v"}


def to_latex(table: Table) -> str:
    """Return the table as LaTeX, with a caption that says how it was made."""
    heads = ["\\#", "row", escape(cells.metric_name(table)), "gain", "$p$ (Holm)", "verdict", "published", "seconds"]
    body = [_line([escape(text) for text in _texts(table, row)]) for row in table.rows]
    head = _line(heads)
    caption = rf"\caption{{{_caption(table)}}}"
    label = (
        rf"\label{{tab:{''.join(letter if letter.isascii() and letter.isalnum() else '-' for letter in table.name)}}}"
    )
    if len(table.rows) < LONG_FROM:
        lines = [
            r"\begin{table}", r"\centering", caption, label, _FITTED, r"\begin{tabular}{" + _COLUMNS + "}", r"\toprule",
            head, r"\midrule", *body, r"\bottomrule", r"\end{tabular}}", r"\end{table}",
        ]  # fmt: skip
        packages = "booktabs, graphicx, textcomp"
    else:
        lines = [
            r"\begin{longtable}{" + _COLUMNS + "}", caption + label + r"\\", r"\toprule", head, r"\midrule",
            r"\endfirsthead", r"\toprule", head, r"\midrule", r"\endhead", r"\bottomrule", r"\endfoot", *body,
            r"\end{longtable}",
        ]  # fmt: skip
        packages = "booktabs, longtable, textcomp"
    return f"% Made by `ablate report`. Needs the packages {packages}.\n" + "\n".join(lines) + "\n"


def escape(text: str) -> str:
    """Return a text that LaTeX sets as it is, in ASCII."""
    return "".join(map(_letter, " ".join(text.split())))


def _letter(letter: str) -> str:
    if letter in _SPECIAL:
        return _SPECIAL[letter]
    if letter.isascii():
        return letter if letter.isprintable() else " "
    base, *marks = list(unicodedata.normalize("NFD", letter))
    if base.isascii() and base.isalpha() and len(marks) == 1 and marks[0] in _ACCENTS:
        return rf"\{_ACCENTS[marks[0]]}{{{base}}}"
    return rf"\texttt{{U+{ord(letter):04X}}}"


def _texts(table: Table, row: TableRow) -> list[str]:
    return [
        str(row.index),
        row.name,
        " ".join(cells.score(table, row)),
        " ".join(cells.gain(table, row)),
        cells.p_value(row),
        row.verdict.partition(" (")[0] or cells.NONE,
        cells.published(table, row),
        " ".join(cells.seconds(row)),
    ]


def _caption(table: Table) -> str:
    seeds = "one seed" if len(table.seeds) == 1 else f"{len(table.seeds)} seeds"
    text = f"Study {table.name}: {cells.metric_and_sense(table)}, {seeds}, {cells.mode(table)}."
    if table.comparisons:
        text += " Mean ± half the width of its 95 % interval; gain with its interval; p adjusted with Holm's method."
    if table.source:
        text += f" Published gains: {table.source}."
    return escape(f"{text} Made with: {table.head.command}, commit {table.head.commit or 'unknown'}.")


def _line(texts: list[str]) -> str:
    return " & ".join(texts) + r" \\"
