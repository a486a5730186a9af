"""One self-contained HTML page about a run or about several runs side by side, and one figure for a README."""

from featlift.report.examples import Evidence, Scenes
from featlift.report.figure import before_after
from featlift.report.page import write
from featlift.report.records import RunRecord, read_run

__all__ = ["Evidence", "RunRecord", "Scenes", "before_after", "read_run", "write"]
