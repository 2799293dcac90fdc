"""Which browsers are installed, in which version."""

import plistlib
import threading

import pytest

from dtest.agents.probe import browsers
from dtest.agents.probe.machine import Answer, Ended, TimedOut
from dtest.events.worker import Browser
from tests.agents.probe.recorded import Recorded, fixture


@pytest.mark.parametrize(
    ("command", "said", "expected"),
    [
        (
            "chromium",
            "Chromium 129.0.6668.89 built on Debian GNU/Linux 12 (bookworm)\n",
            Browser("chromium", "129.0.6668.89", "/usr/bin/chromium"),
        ),
        (
            "google-chrome-stable",
            "Google Chrome 129.0.6668.89 \n",
            Browser("chrome", "129.0.6668.89", "/usr/bin/google-chrome-stable"),
        ),
        (
            "firefox-esr",
            "Mozilla Firefox 128.3.1esr\n",
            Browser("firefox", "128.3.1esr", "/usr/bin/firefox-esr"),
        ),
        (
            "microsoft-edge",
            "Microsoft Edge 129.0.2792.65 \n",
            Browser("edge", "129.0.2792.65", "/usr/bin/microsoft-edge"),
        ),
    ],
)
def test_a_browser_tells_its_version(command: str, said: str, expected: Browser) -> None:
    machine = Recorded(commands={f"{command} --version": Ended(0, said)})

    assert browsers.detect(machine) == ((expected,), ())


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Ended(1, "", "Command requires the chromium snap to be installed.\n"), "requires"),
        (Ended(0, "Chromium\n"), "said: Chromium"),
        (TimedOut(5.0), "no answer in 5 s"),
        (None, "cannot be started"),
    ],
)
def test_a_browser_that_does_not_is_a_problem(answer: Answer, expected: str) -> None:
    machine = Recorded(commands={"chromium --version": answer})

    found, problems = browsers.detect(machine)

    assert found == ()
    assert problems[0].startswith("chromium (/usr/bin/chromium) ")
    assert expected in problems[0]


def test_no_browser_is_nothing() -> None:
    assert browsers.detect(Recorded()) == ((), ())


def test_browsers_are_asked_side_by_side() -> None:
    together = threading.Barrier(4)

    class Slow(Recorded):
        def run(self, *argv: str, limit_s: float) -> Answer:
            together.wait(timeout=30)  # passes only when all four have been asked
            return Ended(0, "1.2.3\n")

        def which(self, name: str) -> str | None:
            return f"/usr/bin/{name}"

    found, _ = browsers.detect(Slow())

    assert [browser.name for browser in found] == ["chromium", "chrome", "firefox", "edge"]


def mac(files: dict[str, str]) -> Recorded:
    return Recorded(system="Darwin", arch="arm64", files=files, variables={"HOME": "/Users/dev"})


def test_a_bundle_tells_its_version() -> None:
    chrome = "/Users/dev/Applications/Google Chrome.app/Contents"
    binary = plistlib.dumps(
        {"CFBundleShortVersionString": "17.6", "CFBundleExecutable": "Safari", "Weight": 2**40},
        fmt=plistlib.FMT_BINARY,
    )
    machine = mac(
        {
            f"{chrome}/Info.plist": fixture("info.plist.xml"),
            "/Applications/Safari.app/Contents/Info.plist": binary.decode(
                "utf-8", "surrogateescape"
            ),
        }
    )

    assert browsers.detect(machine) == (
        (
            Browser("chrome", "129.0.6668.90", f"{chrome}/MacOS/Google Chrome"),
            Browser("safari", "17.6", "/Applications/Safari.app/Contents/MacOS/Safari"),
        ),
        (),
    )


@pytest.mark.parametrize("text", ["", "no list", "<plist><dict></plist>", "bplist00", "<plist/>"])
def test_a_broken_bundle_is_a_problem(text: str) -> None:
    found, problems = browsers.detect(mac({"/Applications/Firefox.app/Contents/Info.plist": text}))

    assert found == ()
    assert problems == ("firefox (/Applications/Firefox.app/Contents) does not tell its version",)
