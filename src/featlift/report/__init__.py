"""Self-contained HTML report of one run or a comparison of several runs, and figures for a README."""

from featlift.report.examples import ComparisonExamples, ReportDataset
from featlift.report.figure import plot_before_after
from featlift.report.page import write_report
from featlift.report.records import RunRecord, read_run

__all__ = ["ComparisonExamples", "ReportDataset", "RunRecord", "plot_before_after", "read_run", "write_report"]
