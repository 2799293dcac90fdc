"""The names of the forms that a report may have."""

from typing import Literal

Format = Literal["junit", "ctrf", "json", "md", "html"]
