"""The words of a call of pytest: cut as argparse does, and parted between here and the sessions."""

import pytest

from dtest.caller.invocation import (
    Arity,
    Refusal,
    Token,
    handed_on,
    refusals,
    tokens,
)

KNOWN = {
    **dict.fromkeys(["-k", "-m", "-n", "-p", "-o", "-r", "--maxfail", "--tb"], Arity(1, 1)),
    **dict.fromkeys(["-x", "-v", "-q", "--lf", "--dtest", "--strict-markers"], Arity(0, 0)),
    "--reruns": Arity(0, 1),
    "--files": Arity(1, 1_000),
}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("tests", [("", ["tests"])]),
        ("-xvk name", [("-x", ["-x"]), ("-v", ["-v"]), ("-k", ["-k", "name"])]),
        ("-kname a.py", [("-k", ["-kname"]), ("", ["a.py"])]),
        ("--maxfail=2 a", [("--maxfail", ["--maxfail=2"]), ("", ["a"])]),
        ("--maxfail 2 a", [("--maxfail", ["--maxfail", "2"]), ("", ["a"])]),
        ("-k -x a", [("-k", ["-k", "-x"]), ("", ["a"])]),
        ("--reruns 2 a", [("--reruns", ["--reruns", "2"]), ("", ["a"])]),
        ("--reruns -x a", [("--reruns", ["--reruns"]), ("-x", ["-x"]), ("", ["a"])]),
        ("--files a b -x", [("--files", ["--files", "a", "b"]), ("-x", ["-x"])]),
        ("--unknown a", [("--unknown", ["--unknown"]), ("", ["a"])]),
        ("-x -- -k", [("-x", ["-x"]), ("", ["-k"])]),
        ("-k", [("-k", ["-k"])]),
        ("", []),
    ],
)
def test_words_belong_together_as_argparse_has_it(
    line: str, expected: list[tuple[str, list[str]]]
) -> None:
    assert list(tokens(line.split(), KNOWN)) == [
        Token(name, tuple(words)) for name, words in expected
    ]


@pytest.mark.parametrize(
    ("line", "paths", "args"),
    [
        ("tests -k a -m b", ["tests"], ["-k", "a", "-m", "b"]),
        ("-qx --maxfail=3 --lf -rA", [], []),
        ("--dtest --dtest-workers=2 -v a::b", ["a::b"], ["-v"]),
        ("-n 0 --strict-markers", [], ["--strict-markers"]),
        ("-p dtest.pytest_plugin.entry -p no:cacheprovider", [], ["-p", "no:cacheprovider"]),
        ("-o addopts=-x -o xfail_strict=true", [], ["-o", "xfail_strict=true"]),
        ("--plugin-of-others=1", [], ["--plugin-of-others=1"]),
    ],
)
def test_what_counts_and_shows_stays_here_all_else_goes_on(
    line: str, paths: list[str], args: list[str]
) -> None:
    found = handed_on(tokens(line.split(), KNOWN))

    assert found.paths == paths
    assert found.args == ["-o", "addopts=", *args]


def test_what_needs_one_process_is_refused_by_its_name() -> None:
    chosen: dict[str, object] = {"usepdb": True, "numprocesses": 0, "trace": False}

    found = refusals(chosen.get)

    assert [type(each) for each in found] == [Refusal]
    assert found[0].option == "--pdb"
    assert refusals({"numprocesses": 2}.get)[0].option == "-n"
