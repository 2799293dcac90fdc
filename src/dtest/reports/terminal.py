"""What a terminal would act on and a report cannot show: colours and the like. Pure."""

import re

_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\))")


def uncoloured(text: str) -> str:
    """Return a text without the control sequences of terminals."""
    return _SEQUENCE.sub("", text) if "\x1b" in text else text
