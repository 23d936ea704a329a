"""Reports: what was measured, beside what was published."""

from jmedllm.report.collect import collect
from jmedllm.report.table import Row, build_rows, markdown, print_table

__all__ = ["Row", "build_rows", "collect", "markdown", "print_table"]
