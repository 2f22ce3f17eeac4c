"""Diagnostics of one recipe: what is wrong with data, network, loss or rate, found in short fits before a long one."""

from ablations.check.finding import Diagnostic, Finding, Need, diagnostic
from ablations.check.runner import DIAGNOSTICS, check, find_recipe
from ablations.check.subject import Subject

__all__ = ["DIAGNOSTICS", "Diagnostic", "Finding", "Need", "Subject", "check", "diagnostic", "find_recipe"]
