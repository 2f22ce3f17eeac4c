"""The table for a paper."""

import re
import shutil
import subprocess

import pytest

from ablations.report.latex import LONG_FROM, escape, to_latex
from ablations.table import read_table
from tests.helpers.results_folder import plan_row, plan_rows, write_results

LATEX = next((path for name in ("pdflatex", "tectonic") if (path := shutil.which(name))), None)
BAD = r"a_b & 50% $x$ #1 {y} ~ ^ \z <1> |" + " [*] “é字±×–\x07"


def table_of(folder, rows=None, **changes):
    return read_table(write_results(folder, rows, **changes))


def body(latex):
    return latex.partition("\\midrule\n")[2].partition("\\bottomrule")[0].strip().splitlines()


def test_every_row_has_a_line_with_eight_cells(tmp_path):
    table = table_of(tmp_path)
    lines = body(to_latex(table))
    assert len(lines) == len(table.rows)
    for line, row in zip(lines, table.rows, strict=True):
        cells = line.removesuffix(r" \\").split(" & ")
        assert len(cells) == 8
        assert cells[0] == str(row.index)
        assert cells[2].startswith(f"{row.score.estimate:.2f} $\\pm$ {row.score.half_width:.2f}")
    assert lines[1].split(" & ")[5] == "gain"


def test_special_characters_are_escaped_and_all_is_ascii(tmp_path):
    rows = [plan_row(0, BAD), plan_row(1, f"+ {BAD}")]
    latex = to_latex(table_of(tmp_path, rows, name=BAD, reference={"source": BAD, "unconfirmed": False}))
    assert latex.isascii()
    assert r"a\_b \& 50\% \$x\$ \#1 \{y\} \textasciitilde{} \textasciicircum{} \textbackslash{}z" in latex
    for line in body(latex):
        assert len(re.findall(r"(?<!\\)&", line)) == 7
    assert latex.count("{") - latex.count(r"\{") == latex.count("}") - latex.count(r"\}")


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("é ö ñ ç š", r"\'{e} \"{o} \~{n} \c{c} \v{s}"),
        ("[0.1, 2]", "{[}0.1, 2{]}"),
        ("±×–", r"$\pm$$\times$--"),
        ("字", r"\texttt{U+5B57}"),
        ("a\nb\t c", "a b c"),
        ('"a" isn\'t', "''a'' isn't"),
    ],
)
def test_a_character_becomes_a_command(text, latex):
    assert escape(text) == latex


def test_a_long_table_breaks_over_pages(tmp_path):
    short, long = (to_latex(table_of(tmp_path / str(count), plan_rows(count))) for count in (LONG_FROM - 1, LONG_FROM))
    assert r"\begin{table}" in short
    assert r"\begin{longtable}{rlrrrlrr}" in long
    assert r"\begin{table}" not in long
    for latex in (short, long):
        for name in re.findall(r"\\begin{(\w+)}", latex):
            assert latex.count(rf"\begin{{{name}}}") == latex.count(rf"\end{{{name}}}") == 1


@pytest.mark.skipif(LATEX is None, reason="there is neither pdflatex nor tectonic")
@pytest.mark.parametrize("count", [3, LONG_FROM])
def test_it_compiles(tmp_path, count):
    rows = [plan_row(0, BAD, text=BAD), *plan_rows(count)[1:]]
    (tmp_path / "table.tex").write_text(to_latex(table_of(tmp_path / "small", rows)))
    packages = r"\usepackage[T1]{fontenc}\usepackage{booktabs,graphicx,longtable,textcomp}"
    document = rf"\documentclass{{article}}{packages}\begin{{document}}\input{{table.tex}}\end{{document}}"
    (tmp_path / "paper.tex").write_text(document)
    options = ["-interaction=nonstopmode", "-halt-on-error"] if "pdflatex" in str(LATEX) else []
    done = subprocess.run([str(LATEX), *options, "paper.tex"], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]


@pytest.mark.skipif(LATEX is None, reason="there is neither pdflatex nor tectonic")
def test_a_wide_table_fits_the_page(tmp_path):
    rows = [plan_row(0, "base"), plan_row(1, "+ a trick (with=many, long=arguments, that=make, its=row, very=wide)")]
    (tmp_path / "table.tex").write_text(to_latex(table_of(tmp_path / "wide", rows)))
    packages = r"\usepackage{booktabs,graphicx,textcomp}"
    document = rf"\documentclass{{article}}{packages}\begin{{document}}\input{{table.tex}}\end{{document}}"
    (tmp_path / "paper.tex").write_text(document)
    done = subprocess.run([str(LATEX), "paper.tex"], cwd=tmp_path, capture_output=True, check=True, text=True)
    assert "Overfull" not in done.stdout + "".join(path.read_text() for path in tmp_path.glob("paper.log"))
