"""The command line: `ablate`.

Results go to standard output and everything else to standard error. Exit codes: 0 done, 1 some training failed or a
recipe needs a look, 2 the user's mistake, 130 stopped with Ctrl-C.
"""

import argparse
import contextlib
import importlib
import sys
from pathlib import Path
from typing import NoReturn

from ablations import workers
from ablations.errors import UserError
from ablations.registry import TASKS
from ablations.study import MODES
from ablations.study_file import find_study, packaged_studies, read_study


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    options = _parser().parse_args(arguments)
    if options.verb in ("plan", "run", "show", "best"):
        workers.start_server(_is_tracked(options))  # it imports torch while this process makes itself ready
    commands = importlib.import_module("ablations.commands")
    try:
        return int(getattr(commands, f"{options.verb}_command")(options))
    except UserError as error:
        commands.err.print(f"ablate: {error}", style="bold red", markup=False, highlight=False, soft_wrap=True)
        return 2
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        commands.err.print(
            f"ablate: {where}{error.strerror or error}. Everything that was finished is kept.", style="red"
        )
        return 1
    except KeyboardInterrupt:
        commands.err.print("Stopped. Everything that was finished is kept; the same command goes on from there.")
        return 130


def _is_tracked(options: argparse.Namespace) -> bool:
    """Return whether the trainings of a run have W&B runs."""
    if options.verb != "run":
        return False
    if options.wandb is not None:
        return True
    with contextlib.suppress(UserError):  # what is wrong with the study is said later
        return bool(read_study(find_study(options.study)).wandb_project)
    return False


class _Parser(argparse.ArgumentParser):
    """argparse, with one sentence instead of the usage lines before an error."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"ablate: {message}. See `{self.prog} --help`.\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="ablate",
        description="Find out which training tricks are worth having on your data.",
        epilog="Example: ablate run digits --seeds 5",
    )
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True, parser_class=_Parser)
    study_help = f"a study file, or one that comes along: {', '.join(packaged_studies())}"

    def verb(name: str, text: str, example: str) -> argparse.ArgumentParser:
        added = verbs.add_parser(name, help=text, description=text, epilog=f"Example: {example}")
        added.set_defaults(verb=name)
        return added

    def add_study(added: argparse.ArgumentParser) -> None:
        added.add_argument("study", metavar="STUDY", help=study_help)
        added.add_argument(
            "--mode", choices=MODES, help="how rows are made from the tricks (default: as the study says)"
        )
        add_results(added)

    def add_results(added: argparse.ArgumentParser) -> None:
        help_text = "the folder of all results (default: results)"
        added.add_argument("--results", type=Path, default=Path("results"), metavar="DIR", help=help_text)

    def add_settings(added: argparse.ArgumentParser) -> None:
        help_text = "set values of the base recipe, for example trainer.max_epochs=20"
        added.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help=help_text)

    def add_wandb(added: argparse.ArgumentParser) -> None:
        help_text = "the W&B project, or TEAM/PROJECT, to send every training to (WANDB_MODE=offline: to the disk)"
        added.add_argument("--wandb", metavar="PROJECT", help=help_text)

    def add_plan(added: argparse.ArgumentParser) -> None:
        add_study(added)
        added.add_argument("--seeds", type=int, metavar="N", help="seeds 0 to N-1, instead of the study's")
        add_settings(added)

    listing = verb("tricks", "List the tricks.", "ablate tricks --task classification")
    listing.add_argument("--task", choices=TASKS, help="only those for one task")
    plan = verb("plan", "Print the rows and trainings of a study; trains nothing.", "ablate plan digits")
    run = verb(
        "run",
        "Train what a study still needs and print its table.",
        "ablate run digits --seeds 5",
    )
    for added in (plan, run):
        add_plan(added)
        added.add_argument(
            "--jobs", type=int, metavar="N", help="trainings at a time (default: one a GPU, else a core)"
        )
        added.add_argument("--rows", nargs="+", metavar="ROW", help="only these rows: numbers, ranges (0-3) or tricks")
    run.add_argument(
        "--executor",
        choices=("local", "inline", "slurm"),
        default="local",
        help="processes (default), this one, to debug, or tasks of a Slurm cluster",
    )
    _add_slurm(run)
    run.add_argument(
        "--until-decided", action="store_true", help="add seeds only to the comparisons that are still open (a race)"
    )
    run.add_argument("--max-seeds", type=int, metavar="N", help="seeds in a race, at most (default: the study's)")
    run.add_argument(
        "--effect", type=float, metavar="E", help="gains within ± E, in the table's unit, are too small to matter"
    )
    add_wandb(run)
    run.add_argument("--replace", action="store_true", help="replace the table of another version of the study")
    show = verb("show", "Print what a row changes.", "ablate show digits label_smoothing")
    add_plan(show)
    show.add_argument("row", metavar="ROW", help="the row's number or trick")
    table = verb("table", "Print the table of a study from what is stored.", "ablate table digits")
    add_study(table)
    best = verb("best", "Write the recipe with the tricks that earned their place.", "ablate best digits")
    add_study(best)
    add_settings(best)
    best.add_argument(
        "--max-cost", type=float, metavar="X", help="leave out what makes a training or a test over X times as long"
    )
    best.add_argument("--output", type=Path, metavar="FILE", help="where to write it (default: best.yaml by the table)")
    report = verb("report", "Write the report of a study: a page, its figures, LaTeX.", "ablate report digits")
    add_study(report)
    for name, text in (
        ("status", "Print how the trainings of a study are doing."),
        ("cancel", "End what a study has in Slurm's queue."),
    ):
        add_study(verb(name, text, f"ablate {name} digits"))
    fit = verb("fit", "Train one recipe.", "ablate fit results/digits/recipes/00-base.yaml --seed 3")
    fit.add_argument("recipe", type=Path, metavar="RECIPE", help="a recipe file")
    fit.add_argument("--seed", type=int, metavar="N", help="instead of the recipe's seed_everything")
    add_settings(fit)
    add_wandb(fit)
    add_results(fit)
    check = verb("check", "Look for what goes wrong with a recipe before it is trained.", "ablate check digits")
    check.add_argument("recipe", metavar="RECIPE", help="a recipe file, or a base that comes along, such as digits")
    add_settings(check)
    return parser


def _add_slurm(run: argparse.ArgumentParser) -> None:
    """Add what is asked of Slurm; what is left out has the value that `SlurmOptions` says."""
    group = run.add_argument_group("with --executor slurm, for each training")
    for name, kind, metavar, text in (
        ("partition", str, "NAME", "where it runs"),
        ("gpus_per_node", int, "N", "graphics processors on each of its nodes; trainer.devices must be as many"),
        ("cpus_per_task", int, "N", "processor cores of each of its processes (default: 1)"),
        ("time", str, "TIME", "the time limit; what takes longer is requeued and goes on (default: 4:00:00)"),
        ("mem", float, "GIB", "memory on each of its nodes"),
        ("account", str, "NAME", "who pays"),
        ("qos", str, "NAME", "the quality of service"),
        ("constraint", str, "FEATURES", "features of its nodes"),
        ("max_running", int, "N", "trainings that run at a time, at most (default: 256)"),
        ("retries", int, "N", "how often it starts again when its node was lost (default: 2)"),
        ("poll", float, "SECONDS", "time between two looks at the queue (default: 10)"),
    ):
        group.add_argument(f"--slurm.{name}", dest=f"slurm_{name}", type=kind, metavar=metavar, help=text)


if __name__ == "__main__":
    sys.exit(main())
