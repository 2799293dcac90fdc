"""What tests ask of machines: by marks, by settings, and by ``--on``; and what several come to.

The words are those of a task's ``requirements``. Which worker has it all is not decided here.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from pydantic import TypeAdapter, ValidationError

from dtest.errors import UsageError
from dtest.events.problem import explain
from dtest.events.task import ANYWHERE, Requirements
from dtest.state.matching import Refusal

KEYWORDS = tuple(field.name for field in fields(Requirements))
NAME_CHARS_MAX = 200
"""Of a class of hardware: it is a label of tasks."""
CLASSES_MAX = 32
_LABEL = "label:"
_NUMBERS = tuple(name for name in KEYWORDS if name.startswith("min_"))
_WORDS = ("browser", "device_type")
_PLAIN = ("cpu",)
"""What no hardware at all means to the scheduler."""
_FORM: TypeAdapter[Requirements] = TypeAdapter(Requirements)

Stated = Mapping[str, Any]
"""What was said, and only that: requirements by keyword."""


@dataclass(frozen=True, slots=True)
class HardwareClass:
    """One alternative of ``--on``."""

    name: str
    """As it was written; empty for a run that names none."""
    requirements: Requirements = ANYWHERE


def stated(values: Mapping[str, object]) -> dict[str, Any]:
    """Return what was said, checked; one kind of hardware may stand without brackets.

    Raises ValueError that names the keyword, and those that are known.
    """
    if not values:
        message = f"asks for nothing; known: {', '.join(KEYWORDS)}"
        raise ValueError(message)
    unknown = next((name for name in values if name not in KEYWORDS), None)
    if unknown is not None:
        message = f"unknown keyword {unknown!r}; known: {', '.join(KEYWORDS)}"
        raise ValueError(message)
    hardware = values.get("hardware")
    listed = {**values, "hardware": [hardware]} if isinstance(hardware, str) else values
    try:
        found = _FORM.validate_python(listed)
    except ValidationError as error:
        message = f"{explain(error)}; known keywords: {', '.join(KEYWORDS)}"
        raise ValueError(message) from error
    return {name: getattr(found, name) for name in values}


def layered(layers: Iterable[Stated]) -> Requirements:
    """Put what was said one over the other, keyword by keyword: the last word counts."""
    said: dict[str, Any] = {}
    for layer in layers:
        said |= layer
    return replace(ANYWHERE, **said) if said else ANYWHERE


def both(one: Requirements, other: Requirements) -> Requirements | Refusal:
    """Return what asks for all that the two ask for; a refusal where nothing could have both."""
    hardware = one.hardware or (() if other.hardware == _PLAIN else other.hardware)
    if one.hardware and other.hardware:
        hardware = tuple(kind for kind in other.hardware if kind in one.hardware)
        if not hardware:
            wanted = " or ".join(other.hardware)
            return Refusal(f"asks for {wanted}, not {' or '.join(one.hardware)}")
    for name in _WORDS:
        here, there = getattr(one, name), getattr(other, name)
        if here is not None and there is not None and here != there:
            return Refusal(f"asks for the {name} {there}, not {here}")
    for label, value in other.labels.items():
        if one.labels.get(label, value) != value:
            return Refusal(f"asks for the label {label}={value}, not {one.labels[label]}")
    return Requirements(
        hardware=hardware,
        **{name: max(getattr(one, name), getattr(other, name)) for name in _NUMBERS},
        browser=one.browser or other.browser,
        device_type=one.device_type or other.device_type,
        labels={**one.labels, **other.labels} if one.labels or other.labels else one.labels,
    )


def document(requirements: Requirements) -> dict[str, Any]:
    """Return the ``requirements`` of a task's document; nothing stands there that is not asked."""
    found = {name: getattr(requirements, name) for name in KEYWORDS}
    return {name: value for name, value in found.items() if value != getattr(ANYWHERE, name)}


def key_of(requirements: Requirements) -> tuple[object, ...]:
    """Return equal keys for what asks for the same."""
    found = {**document(requirements), "labels": tuple(sorted(requirements.labels.items()))}
    return tuple(sorted(found.items()))


def in_words(requirements: Requirements) -> str:
    """Say in few words what is asked for, in the form of ``--on``."""
    said: list[str] = ["/".join(requirements.hardware)] if requirements.hardware else []
    for name, value in document(requirements).items():
        if name in _NUMBERS:
            said.append(f"{name}={value:g}")
        elif name in _WORDS:
            said.append(f"{name}={value}")
    said += [f"{_LABEL}{name}={value}" for name, value in sorted(requirements.labels.items())]
    return " & ".join(said)


def parse_on(text: str) -> tuple[HardwareClass, ...]:
    """Read classes of hardware: ``cuda & min_device_memory_gb=24 | rocm``. Raises UsageError."""
    classes = tuple(_class(part) for part in text.split("|"))
    names = [each.name for each in classes]
    keys = [key_of(each.requirements) for each in classes]
    for number, name in enumerate(names):
        if keys[number] in keys[:number]:
            message = f"--on names {name!r} twice"
            raise UsageError(message, hint="each class of hardware once")
    if len(classes) > CLASSES_MAX:
        message = f"--on names {len(classes)} classes of hardware; {CLASSES_MAX} are possible"
        raise UsageError(message)
    return classes


def _class(text: str) -> HardwareClass:
    terms: list[str] = []
    said: dict[str, Any] = {}
    labels: dict[str, str] = {}
    for term in text.split("&"):
        name, equals, value = (part.strip() for part in term.partition("="))
        terms.append(f"{name}{equals}{value}")
        if name.startswith(_LABEL) and equals:
            labels[name.removeprefix(_LABEL)] = value
            continue
        keyword, found = (name, _value(name, value)) if equals else ("hardware", name)
        if keyword in said:
            message = f"--on {text.strip()!r} states {keyword} twice"
            raise UsageError(message, hint="`|` stands between classes of hardware, `&` within one")
        said[keyword] = found
    try:
        checked = stated({**said, **({"labels": labels} if labels else {})})
    except ValueError as error:
        message = f"--on {text.strip()!r}: {error}"
        raise UsageError(message, hint='as in `--on "cuda & min_memory_gb=8 | rocm"`') from error
    name = " & ".join(terms)
    if len(name) > NAME_CHARS_MAX:
        message = f"--on: {name[:40]}… has more than {NAME_CHARS_MAX} characters"
        raise UsageError(message)
    return HardwareClass(name, layered([checked]))


def _value(name: str, text: str) -> object:
    """Read a number where one is to stand; what is none is refused with the keyword."""
    if name not in _NUMBERS:
        return text
    try:
        return float(text)
    except ValueError:
        return text
