"""Installed browsers with their versions: by ``--version``, on macOS by the application's bundle.

Browsers that tools keep in caches of their own are not searched, and none is opened: what WebGPU
or WebNN can do there is another probe's question. macOS: Not verified on hardware.
"""

import plistlib
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from xml.parsers.expat import ExpatError

from dtest.agents.probe.found import complaint, words
from dtest.agents.probe.machine import Ended, Machine
from dtest.events.worker import Browser

LIMIT_S = 5.0
VERSION_CHARS_MAX = 100
PATH_CHARS_MAX = 1000
_VERSION = re.compile(r"[0-9]+(?:\.[0-9]+)+(?:esr|[ab][0-9]+)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class _Product:
    name: str
    bundle: str
    commands: tuple[str, ...] = ()


_PRODUCTS = (
    _Product("chromium", "Chromium", ("chromium", "chromium-browser")),
    _Product("chrome", "Google Chrome", ("google-chrome", "google-chrome-stable", "chrome")),
    _Product("firefox", "Firefox", ("firefox", "firefox-esr")),
    _Product("edge", "Microsoft Edge", ("microsoft-edge", "microsoft-edge-stable")),
    _Product("safari", "Safari"),
)

_Answer = Browser | str | None
"""A browser, or why there is none: in words if it is installed."""


def detect(machine: Machine) -> tuple[tuple[Browser, ...], tuple[str, ...]]:
    """Return the browsers, and what is installed but does not tell its version."""
    look = _bundle if machine.system == "Darwin" else _command
    with ThreadPoolExecutor(len(_PRODUCTS), "browser-probe") as threads:
        answers = list(threads.map(lambda product: look(machine, product), _PRODUCTS))
    return (
        tuple(answer for answer in answers if isinstance(answer, Browser)),
        tuple(answer for answer in answers if isinstance(answer, str)),
    )


def _command(machine: Machine, product: _Product) -> _Answer:
    path = next((at for name in product.commands if (at := machine.which(name))), None)
    if path is None:
        return None
    answer = machine.run(path, "--version", limit_s=LIMIT_S)
    if isinstance(answer, Ended) and answer.exit_code == 0:
        matched = _VERSION.search(answer.output)
        if matched:
            return Browser(product.name, matched[0][:VERSION_CHARS_MAX], path[:PATH_CHARS_MAX])
    return complaint(f"{product.name} ({path})", answer)


def _bundle(machine: Machine, product: _Product) -> _Answer:
    for folder in _folders(machine):
        contents = f"{folder}/{product.bundle}.app/Contents"
        text = machine.read(f"{contents}/Info.plist")
        if text is None:
            continue
        info = _info(text)
        version = words(info.get("CFBundleShortVersionString", ""), VERSION_CHARS_MAX)
        if not version:
            return words(f"{product.name} ({contents}) does not tell its version")
        program = info.get("CFBundleExecutable") or product.bundle
        return Browser(product.name, version, words(f"{contents}/MacOS/{program}", PATH_CHARS_MAX))
    return None


def _folders(machine: Machine) -> Iterator[str]:
    yield "/Applications"
    home = machine.variable("HOME")
    if home:
        yield f"{home}/Applications"


def _info(text: str) -> dict[str, str]:
    """Return the texts of a property list, XML or binary; nothing of one that is broken."""
    try:
        listed = plistlib.loads(text.encode("utf-8", "surrogateescape"))
    except (ValueError, ExpatError, LookupError, TypeError, AttributeError, ArithmeticError):
        return {}  # plistlib raises all of these for broken lists
    values = listed.items() if isinstance(listed, dict) else ()
    return {str(name): value for name, value in values if isinstance(value, str)}
