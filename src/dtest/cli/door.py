"""The API that a command talks to."""

from dtest.caller import api_client
from dtest.caller.api_client import ApiClient
from dtest.cli import output
from dtest.settings import Settings


def open_api(settings: Settings) -> ApiClient:
    """Return the client of the settings' API. Raises Unavailable if nothing runs."""
    return api_client.open_api(settings, tell=tell)


def tell(text: str) -> None:
    """Tell the person what a call has to wait for."""
    output.say(f"dtest: {text}")
