"""Runs the diagnostics, from the data to the rate: what comes later makes sense where what comes before is well."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ablations.check.data import class_balance, duplicates, image_values, label_range
from ablations.check.finding import Diagnostic, Finding
from ablations.check.learning import learning_rate, overfit
from ablations.check.network import batch_of_one, independence, output_activation
from ablations.check.start import gradients, initial_loss, untouched_parameters
from ablations.check.subject import Subject
from ablations.errors import StudyError, UserError, did_you_mean
from ablations.failures import failure_reason
from ablations.study_file import HERE

log = logging.getLogger(__name__)

_STOPPED = "stopped by "

DIAGNOSTICS: tuple[Diagnostic, ...] = (
    label_range,
    class_balance,
    duplicates,
    image_values,
    independence,
    initial_loss,
    untouched_parameters,
    output_activation,
    batch_of_one,
    overfit,
    gradients,
    learning_rate,
)


def find_recipe(name: str) -> Path:
    """Return the file of a recipe.

    Args:
        name: a path, or the name of a base that comes along.

    Raises:
        StudyError: there is neither.
    """
    path, bases = Path(name), {base.stem: base for base in (HERE / "bases").glob("*.yaml")}
    if path.is_file():
        return path
    if name in bases:
        return bases[name]
    offer = did_you_mean(path.stem, bases)
    raise StudyError(
        f"There is no recipe {name!r}: neither a file of that name nor a base that comes along "
        f"({', '.join(sorted(bases))}).{offer}"
    )


def check(config: dict[str, Any]) -> Iterator[Finding]:
    """Run all diagnostics on a resolved recipe, with its seed, and yield what each finds.

    Raises:
        RecipeError: a class refuses its arguments.
    """
    subject, known = Subject(config), ""
    for diagnostic in DIAGNOSTICS:
        finding = _run(diagnostic, subject)
        if finding.verdict == "look here" and finding.saw == known:
            finding = Finding(finding.name, "not run", "stopped by the same")
        elif finding.saw.startswith(_STOPPED):
            known = finding.saw
        yield finding


def _run(diagnostic: Diagnostic, subject: Subject) -> Finding:
    try:
        return diagnostic(subject)
    except UserError:
        raise
    except Exception as error:  # whatever the user's classes raise is what has to be looked at
        log.debug("%s", diagnostic.name, exc_info=True)
        advice = "The training would stop there too. Put it right first; `ablate fit` shows the traceback."
        return Finding(diagnostic.name, "look here", f"{_STOPPED}{failure_reason(error)}", advice)
