"""Hypothesis strategies for every payload of the catalogue, from the fields' own type hints.

Values cover what the hints allow, kept small; what they forbid is not made here.
"""

import dataclasses
import types
import typing
from datetime import date, datetime, timedelta, timezone
from enum import Enum
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin

from hypothesis import strategies as st
from pydantic import AwareDatetime
from pydantic.fields import FieldInfo

from dtest.events.catalogue import Payload
from dtest.events.fields import TOKEN_PATTERN
from dtest.events.policy import PolicyChanged
from dtest.events.suite import SuiteSubmitted
from dtest.events.suite_list import Function, ListPart, Marks
from tests.kit.parameters import some

TEXT = st.characters(exclude_categories=["Cs"])
"""Everything that UTF-8 can say."""
TOKENS = st.from_regex(TOKEN_PATTERN.replace("100", "8"), fullmatch=True)
INTEGER_MAX = 2**53
NUMBER_MAX = 1e12
INSTANTS: st.SearchStrategy[datetime] = st.datetimes(
    min_value=datetime(1970, 1, 3),  # noqa: DTZ001 - the zone is drawn beside it
    max_value=datetime(2200, 1, 1),  # noqa: DTZ001
    timezones=st.integers(-14 * 60, 14 * 60).map(lambda m: timezone(timedelta(minutes=m))),
)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(TEXT, max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(TEXT, max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
DOCUMENTS = st.dictionaries(st.text(TEXT, max_size=5), JSON, max_size=3)


@dataclasses.dataclass
class _Limits:
    low: float | None = None
    high: float | None = None
    open_low: bool = False
    size_min: int = 0
    size_max: int = 6
    token: bool = False
    pattern: str | None = None

    def learn(self, note: object) -> None:
        """Take over what one annotation says."""
        if isinstance(note, FieldInfo):
            for part in note.metadata:
                self.learn(part)
        for name in ("ge", "gt"):
            if (low := getattr(note, name, None)) is not None:
                self.low, self.open_low = low, name == "gt"
        if (high := getattr(note, "le", None)) is not None:
            self.high = high
        self.size_min = getattr(note, "min_length", None) or self.size_min
        self.size_max = min(self.size_max, getattr(note, "max_length", None) or self.size_max)
        self.pattern = getattr(note, "pattern", None) or self.pattern
        self.token = self.token or self.pattern == TOKEN_PATTERN


def of(payload: type[Any]) -> st.SearchStrategy[Any]:
    """Instances of a payload, or of a dataclass inside one."""
    found = _KNOWN.get(payload)
    if found is None:
        made = _OWN[payload]() if payload in _OWN else _of_dataclass(payload)
        found = _KNOWN[payload] = made
    return found


_KNOWN: dict[type[Any], st.SearchStrategy[Any]] = {}
_PARAMETERS = st.randoms(use_true_random=False).map(lambda rng: some(rng, rng.choice([0, 1, 3])))


def _of_policy() -> st.SearchStrategy[Any]:
    """Parameters have names and limits of their own."""
    return _of_dataclass(PolicyChanged, parameters=_PARAMETERS, reset=_PARAMETERS.map(tuple))


def _of_list() -> st.SearchStrategy[Any]:
    """Its numbers name what stands beside them."""
    return _of_dataclass(
        ListPart,
        tests=st.just((("t.py::a", ""),)),
        marks=st.just((Marks(("slow",), (([1], {"hardware": "cuda"}),)),)),
        marked=st.sampled_from([(), (0,)]),
        functions=st.just((Function("t.py", "a", 1, ""),)),
        places=st.sampled_from([(), ((0, 0, ""),)]),
    )


def _of_suite() -> st.SearchStrategy[Any]:
    return _of_dataclass(SuiteSubmitted, environment=st.none(), runner=st.none())


_OWN: dict[type[Any], typing.Callable[[], st.SearchStrategy[Any]]] = {
    PolicyChanged: _of_policy,
    ListPart: _of_list,
    SuiteSubmitted: _of_suite,
}


def _of_dataclass(payload: type[Any], **stated: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    hints = typing.get_type_hints(payload, include_extras=True)
    by_name = {
        field.name: _of_hint(hints[field.name])
        for field in dataclasses.fields(payload)
        if get_origin(hints[field.name]) is not ClassVar
    }
    return st.builds(payload, **(by_name | stated))


def any_of(payloads: typing.Iterable[type[Payload]]) -> st.SearchStrategy[Payload]:
    """Instances of any of these payloads."""
    return st.one_of([of(payload) for payload in payloads])


def _of_hint(  # noqa: PLR0911 - one line for each form
    hint: Any, notes: tuple[object, ...] = ()
) -> st.SearchStrategy[Any]:
    if isinstance(hint, typing.NewType):
        return _of_hint(hint.__supertype__, notes)
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _of_hint(args[0], (*args[1:], *notes))
    if origin in (Union, types.UnionType):
        return st.one_of([_of_hint(arg, notes) for arg in args])
    if origin is tuple and args[-1] is not Ellipsis:
        return st.tuples(*(_of_hint(arg) for arg in args))
    if origin is list:
        return st.lists(_of_hint(args[0]), max_size=3)
    if origin is tuple:
        limits = _limits(notes)
        return st.lists(
            _of_hint(args[0]), min_size=limits.size_min, max_size=min(3, limits.size_max)
        ).map(tuple)
    if origin is dict:
        if args[1] is Any:
            return DOCUMENTS
        return st.dictionaries(_of_hint(args[0]), _of_hint(args[1]), max_size=3)
    return _of_class(hint, _limits(notes))


def _limits(notes: tuple[object, ...]) -> _Limits:
    limits = _Limits()
    for note in notes:
        limits.learn(note)
    return limits


def _of_class(hint: Any, limits: _Limits) -> st.SearchStrategy[Any]:
    if hint in _PLAIN:
        return _PLAIN[hint]
    if get_origin(hint) is Literal:
        return st.sampled_from(get_args(hint))
    if hint is str:
        text = st.text(TEXT, min_size=limits.size_min, max_size=limits.size_max)
        if limits.pattern and not limits.token:
            return st.from_regex(limits.pattern, fullmatch=True)
        return TOKENS if limits.token else text
    if hint in (int, float):
        return _number(hint, limits)
    if issubclass(hint, Enum):
        return st.sampled_from(hint)
    return of(hint)


_PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    type(None): st.none(),
    Any: st.none(),
    bool: st.booleans(),
    AwareDatetime: INSTANTS,
    date: st.dates(),
}


def _number(kind: type, limits: _Limits) -> st.SearchStrategy[Any]:
    largest = INTEGER_MAX if kind is int else NUMBER_MAX
    low = -largest if limits.low is None else limits.low
    high = largest if limits.high is None else limits.high
    if kind is int:
        return st.integers(int(low), int(high))
    return st.floats(low, high, exclude_min=limits.open_low)
