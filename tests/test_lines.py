"""Lines for people end where the terminal does, and nothing that is copied is broken."""

from __future__ import annotations

import pytest

from acme_middleware.cli.lines import indented, labelled, wrapped

PATH = "/var/lib/acme-middleware/live/a-name-that-is-rather-long.shop.example.com/current/fullchain.pem"
LONG = " ".join(["word"] * 40)


@pytest.fixture(autouse=True)
def _no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        pytest.param("short", ["short"], id="short"),
        pytest.param("two  spaces", ["two  spaces"], id="spaces of a line that fits"),
        pytest.param("", [""], id="nothing"),
        pytest.param(f"in {PATH} it is", [f"in {PATH}", "it is"], id="a path wider than the line"),
        pytest.param(
            f"{'x' * 50}, run `acme-middleware print-config systemd`: then",
            [f"{'x' * 50}, run", "`acme-middleware print-config systemd`: then"],
            id="a command",
        ),
        pytest.param(["/a folder/ ", "x" * 60, "y"], ["/a folder/", f"{'x' * 60} y"], id="words of which one has a space"),
        pytest.param([f"name: {LONG}"], [f"name: {LONG}"], id="one word, whatever is in it"),
        pytest.param("a\x1b[2Jb\nc", ["a [2Jb c"], id="what moves the cursor"),
    ],
)
def test_a_text_is_broken_between_its_words(text: str | list[str], lines: list[str]) -> None:
    assert wrapped(text, beside=14) == lines


def test_no_line_is_wider_and_each_is_as_full_as_can_be(capsys: pytest.CaptureFixture[str]) -> None:
    labelled("issued", LONG)
    indented(LONG, by=6)
    lines = capsys.readouterr().out.splitlines()
    assert [len(line) - len(line.lstrip()) for line in lines] == [2, 14, 14, 14, 6, 8, 8]
    full = [line for place, line in enumerate(lines) if place not in (3, 6)]
    assert [len(line) for line in full if not 80 - len(" word") < len(line) <= 80] == []
    assert " ".join(" ".join(lines).split()) == f"issued {LONG} {LONG}"


def test_a_wide_terminal_shows_it_in_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    labelled("issued", LONG)
    assert capsys.readouterr().out == f"  issued      {LONG}\n"
