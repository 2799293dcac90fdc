"""Recipes of environments as the command line takes them."""

from typing import Any

import orjson

from dtest.errors import UsageError


def recipe_of(text: str | None) -> dict[str, Any] | None:
    """Read the recipe of an environment. Raises UsageError."""
    if text is None:
        return None
    try:
        content = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        message = f"--environment is not JSON: {error}"
        raise UsageError(message, hint="see docs/workspaces.md for the form") from error
    if not isinstance(content, dict):
        message = "--environment is no JSON object"
        raise UsageError(message, hint="see docs/workspaces.md for the form")
    return content
