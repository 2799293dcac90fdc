"""Whether a report that is built later is the one that was written at the end of the call."""

from pathlib import Path

from tests.cli.command import Person

FORMS = {"junit": "r.xml", "ctrf": "r.json", "html": "r.html", "markdown": "r.md"}
"""By option of ``dtest test``, the file that it is to write."""
OPTIONS = tuple(word for form, name in FORMS.items() for word in (f"--{form}", name))


def is_the_same_later(person: Person, home: Path, run: str, archive: Path) -> None:
    """Build each report again, from the cell and from an archive alone, and compare all bytes.

    ``home`` is where the call that ended had ``OPTIONS``; ``archive`` is written if it is missing.
    """
    if not archive.exists():
        person.here("archive", "write", "--to", str(archive)).good()
    alone = person.at(person.cwd, DTEST_API_URL="")
    for form, name in FORMS.items():
        wanted = (home / name).read_bytes()
        kind = "md" if form == "markdown" else form
        person.here("report", "build", run, "--format", kind, "--output", "later").good()
        assert (person.cwd / "later").read_bytes() == wanted, form
        words = ("--archive", str(archive), "--offline", "--output", "past")
        alone.here("report", "build", run, "--format", kind, *words).good()
        assert (person.cwd / "past").read_bytes() == wanted, form
