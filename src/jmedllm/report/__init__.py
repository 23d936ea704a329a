"""Reports: what was measured, beside what was published."""

from jmedllm.report.collect import CollectedResult, collect, collect_records
from jmedllm.report.questions import questions_of
from jmedllm.report.table import Row, build_rows, markdown, print_table

__all__ = [
    "CollectedResult",
    "Row",
    "build_rows",
    "collect",
    "collect_records",
    "markdown",
    "print_table",
    "questions_of",
]
