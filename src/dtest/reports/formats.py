"""The forms of a report, by the names that the command line gives them."""

from collections.abc import Callable

from dtest.reports.ctrf import ctrf
from dtest.reports.document import document
from dtest.reports.form import Format
from dtest.reports.html import html
from dtest.reports.junit import junit
from dtest.reports.markdown import markdown
from dtest.reports.report import Report


def _markdown(report: Report) -> bytes:
    return markdown(report).encode()


FORMATS: dict[Format, Callable[[Report], bytes]] = {
    "junit": junit,
    "ctrf": ctrf,
    "json": document,
    "md": _markdown,
    "html": html,
}
"""Each returns the whole file, in UTF-8."""
