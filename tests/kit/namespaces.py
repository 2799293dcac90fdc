"""Whether this machine lets tests make network namespaces."""

from dtest.drills.networks import NamespacesRefused, networks


async def refusal() -> str:
    """Return why there can be no network namespaces here; nothing where there can."""
    try:
        async with networks():
            return ""
    except NamespacesRefused as error:
        return error.message
