"""What is wrong with a document, in words."""

from pydantic import ValidationError

DETAIL_CHARACTERS_MAX = 2_000
"""Most of a refusal's detail: the refusal is an event itself and has to be acceptable."""


def explain(error: ValidationError) -> str:
    """Say in one line what is wrong with which field, the first five problems."""
    lines = [
        f"{'.'.join(map(str, problem['loc'])) or 'data'}: {problem['msg']}"
        for problem in error.errors(include_url=False, include_context=False)[:5]
    ]
    return "; ".join(lines)[:DETAIL_CHARACTERS_MAX]
