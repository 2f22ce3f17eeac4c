"""The report of a study: one page, its figures, and its table for a paper."""

from ablations.report.report import Report, make_report, write_report

__all__ = ["Report", "make_report", "write_report"]
