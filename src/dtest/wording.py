"""Numbers and names in sentences, as people write them. Pure."""

from collections.abc import Iterable
from difflib import get_close_matches

_DIGITS = 3
_WHOLE_FROM = 100.0


def counted(count: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun: ``1 task``, ``1200 tasks``."""
    return f"{count} {noun if count == 1 else plural or f'{noun}s'}"


def figure(value: float) -> str:
    """Return a number with three digits that count, and never with an exponent: ``3600``."""
    if abs(value) >= _WHOLE_FROM:
        return f"{value:.0f}"
    text = f"{value:.{_DIGITS}g}"
    return f"{value:.9f}".rstrip("0") if "e" in text else text


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return a question about the known word that comes nearest; nothing if none does."""
    near = get_close_matches(word, list(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
