"""What the verbs of the command line do, a function a verb."""

from ablations.commands.cluster import cancel_command, status_command
from ablations.commands.console import err, out
from ablations.commands.looking import plan_command, show_command, tricks_command
from ablations.commands.outcomes import best_command, report_command, table_command
from ablations.commands.recipes import check_command, fit_command
from ablations.commands.running import run_command

__all__ = [
    "best_command",
    "cancel_command",
    "check_command",
    "err",
    "fit_command",
    "out",
    "plan_command",
    "report_command",
    "run_command",
    "show_command",
    "status_command",
    "table_command",
    "tricks_command",
]
