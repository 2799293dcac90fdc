"""Structured logs of long-running processes: events with fields, not prose.

Lines of JSON, or plain lines on a terminal. Never used by short command-line calls.
"""

import logging
import sys

import structlog


def set_up_logs(*, role: str, json_lines: bool, level: int = logging.INFO) -> None:
    """Send the logs of this process to standard error, each line with its role."""
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if json_lines
        else structlog.dev.ConsoleRenderer(colors=False)
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.dict_tracebacks,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(role=role)
