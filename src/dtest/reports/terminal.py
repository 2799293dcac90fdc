"""What a terminal would act on and a report cannot show: colours and the like. Pure."""

import re

_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\))")


def uncoloured(text: str) -> str:
    """Return a text without the control sequences of terminals."""
    return _SEQUENCE.sub("", text) if "\x1b" in text else text


NAME_CHARS_MAX = 200


def shortened(name: str) -> str:
    """Return a name as a line of a terminal can show it: the end of it tells it from others."""
    if len(name) <= NAME_CHARS_MAX:
        return name
    half = NAME_CHARS_MAX // 2 - 2
    return f"{name[:half]}...{name[-half:]}"
