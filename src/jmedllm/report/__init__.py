"""Reports of measured and published scores, as tables, HTML page and model card."""

from jmedllm.report.collect import CollectedResult, collect
from jmedllm.report.headline import headlines
from jmedllm.report.markdown import markdown
from jmedllm.report.questions import questions_of
from jmedllm.report.rows import Row, build_rows
from jmedllm.report.table import print_table

__all__ = [
    "CollectedResult",
    "Row",
    "build_rows",
    "collect",
    "headlines",
    "markdown",
    "print_table",
    "questions_of",
]
