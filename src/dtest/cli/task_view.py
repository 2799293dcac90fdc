"""A task as a person reads it: upright, each attempt with its times and what it used."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from dtest.cli import output
from dtest.wording import counted, figure

_GB = 1e9
_LIMITED = {"run_timeout": "time", "oom_task": "memory"}
"""Reasons that name a limit which was exceeded."""


def task_lines(task: Mapping[str, Any]) -> list[tuple[str, object]]:
    """Return what a task is and how it stands, as pairs of name and value."""
    document = task["document"]
    return [
        ("task", task["task_id"]),
        ("name", task["name"] if task["name"] != task["task_id"] else None),
        ("run", task["run_id"]),
        ("type", task["type"]),
        ("status", _with(task["status"], task["reason"])),
        ("flaky", "yes" if task["flaky"] else None),
        ("upstream", task["upstream"]),
        ("priority", task["priority"]),
        ("queued_at", task["queued_at"]),
        ("since", task["since"]),
        ("submitted_by", task["submitted_by"]),
        ("labels", _pairs(document.get("labels") or {})),
        ("requirements", _stated(document.get("requirements") or {})),
        ("config", output.cell(document.get("config"), "config")),
    ]


def attempt_lines(attempt: Mapping[str, Any]) -> list[tuple[str, object]]:
    """Return what became of an attempt, as pairs of name and value."""
    exceeded = _LIMITED.get(attempt["reason"] or "", "")
    where = ", ".join(attempt["devices"].split(",")) if attempt["devices"] else ""
    return [
        ("attempt", attempt["attempt"]),
        ("  worker", _with(attempt["worker_id"], where or attempt["hardware"])),
        ("  status", _with(attempt["status"], attempt["reason"])),
        ("  detail", attempt["detail"]),
        ("  exit code", attempt["exit_code"]),
        ("  signal", attempt["signal"]),
        ("  assigned_at", attempt["assigned_at"]),
        ("  started_at", attempt["started_at"]),
        ("  finished_at", attempt["finished_at"]),
        ("  took", _took(attempt, exceeded)),
        ("  memory", _memory(attempt, exceeded)),
        ("  output", _output(attempt)),
        ("  smaller config", _pairs(attempt["config"]) if attempt["fallback"] else None),
        ("  resumed from", attempt["resumed_from"]),
        ("  checkpoint", _checkpoint(attempt)),
        ("  artefacts", _artefacts(attempt)),
    ]


def show_upright(lines: Iterable[tuple[str, object]]) -> None:
    """Print pairs of name and value, a line each; what is unknown or empty is left out.

    As tables: drawn on a terminal, separated by a tab elsewhere.
    """
    shown = [(name, output.cell(value, name.strip())) for name, value in lines if _is_stated(value)]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        plain = value.replace("\t", " ")
        print(f"{name:{width}}  {value}" if output.is_terminal() else f"{name}\t{plain}")


def _is_stated(value: object) -> bool:
    return value is not None and value != ""


def _with(value: object, more: object) -> str:
    return f"{value} ({more})" if more else str(value)


def _stated(document: Mapping[str, Any]) -> str:
    """Return the fields of a document that say something."""
    return _pairs({name: value for name, value in document.items() if value})


def _pairs(document: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={_plain(value)}" for name, value in document.items())


def _plain(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _took(attempt: Mapping[str, Any], exceeded: str) -> str:
    limit_s, parts = attempt["timeout_s"], []
    if attempt["started_at"] and attempt["finished_at"]:
        begun, ended = (datetime.fromisoformat(attempt[f"{n}_at"]) for n in ("started", "finished"))
        parts.append(f"{figure((ended - begun).total_seconds())} s")
    if attempt["cpu_s"] is not None:
        parts.append(f"{figure(attempt['cpu_s'])} s of processors")
    if limit_s is not None:
        by = ", by earlier attempts" if attempt["timeout_observed"] else ""
        told = "exceeded its limit of" if exceeded == "time" else "limit"
        parts.append(f"{told} {figure(limit_s)} s{by}")
    return ", ".join(parts)


def _memory(attempt: Mapping[str, Any], exceeded: str) -> str:
    peak, limit_gb, parts = attempt["memory_bytes_peak"], attempt["memory_limit_gb"], []
    if peak is not None:
        parts.append(f"peak {figure(peak / _GB)} GB")
    if limit_gb is not None:
        told = "exceeded its limit of" if exceeded == "memory" else "limit"
        parts.append(f"{told} {figure(limit_gb)} GB")
    return ", ".join(parts)


def _output(attempt: Mapping[str, Any]) -> str | None:
    written, dropped = attempt["output_bytes"], attempt["output_bytes_dropped"]
    if written is None:
        return None
    return f"{counted(written, 'byte')}" + (f", {dropped} of them dropped" if dropped else "")


def _checkpoint(attempt: Mapping[str, Any]) -> str:
    number, problem = attempt["checkpoint"], attempt["checkpoint_problem"]
    told = f"number {number}, stored at {attempt['checkpoint_at']}" if number is not None else ""
    return "; ".join(filter(None, (told, problem)))


def _artefacts(attempt: Mapping[str, Any]) -> str:
    found = attempt["artifacts"] or []
    return ", ".join(f"{each['name']} ({counted(each['size_bytes'], 'byte')})" for each in found)
