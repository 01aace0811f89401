"""Tables 3 and 4 in the paper's layout, with what was not computed said so, and the honest version beside them."""

from __future__ import annotations

from hyped_bench.report.context import ReportContext
from hyped_bench.report.sections.paper_table_3 import table_3
from hyped_bench.report.sections.paper_table_4 import table_4


def section(context: ReportContext) -> str:
    """Both tables."""
    return context.join([*table_3(context), *table_4(context)])
