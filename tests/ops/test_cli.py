"""The `pendra` command: quick, and every failure in one line with its exit status."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from ops import cli
from tasks.errors import BusyError, ConfigError


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """A command `boom` that raises what is put into this list."""
    raised: list[BaseException] = []

    def boom() -> None:
        raise raised[0]

    monkeypatch.setitem(cli.COMMANDS, "boom", cli.Entry("ops.cli:boom", "Fail."))
    monkeypatch.setattr(cli, "boom", click.Command("boom", callback=boom), raising=False)
    return raised


def test_help_lists_every_part_without_loading_it():
    code = "import sys, ops.cli; ops.cli.run(['--help']); print([m for m in sys.modules if m.startswith('ops.c')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    for name in ("setup", "config", "models", "keys", "up", "worker", "bridge", "status"):
        assert f"\n  {name} " in done.stdout
    assert done.stdout.splitlines()[-1] == "['ops.cli', 'ops.commands']"


def test_help_answers_at_once():
    """Because it loads nothing that takes its time: of other people's packages, click and no more."""
    code = (
        "import sys; had = set(sys.modules); import ops.cli; ops.cli.run(['--help']); print(*set(sys.modules) - had)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}
    assert loaded - sys.stdlib_module_names == {"click", "ops", "tasks"}


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_listed_command_loads_and_has_help(name: str, capsys: pytest.CaptureFixture[str]):
    assert cli.run([name, "--help"]) == 0
    assert f"Usage: pendra {name}" in capsys.readouterr().out


def test_a_part_that_is_not_in_this_build_does_not_show(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setitem(cli.COMMANDS, "later", cli.Entry("ops.commands.later:command", "Not yet."))
    assert cli.run(["--help"]) == 0
    assert "later" not in capsys.readouterr().out
    assert cli.run(["later"]) == 2


def test_version(capsys: pytest.CaptureFixture[str]):
    assert cli.run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("pendra ")


def test_a_misspelt_command_names_the_nearest(capsys: pytest.CaptureFixture[str]):
    assert cli.run(["modles"]) == 2
    assert "did you mean `pendra models`?" in capsys.readouterr().err


def test_a_wrong_option_is_a_usage_error(capsys: pytest.CaptureFixture[str]):
    assert cli.run(["config", "list", "--nope"]) == 2
    assert "--nope" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("raised", "status", "line"),
    [
        (ConfigError("MODELS is wrong"), 2, "pendra: error: MODELS is wrong [bad_config]\n"),
        (BusyError("too many wait"), 1, "pendra: error: too many wait [queue_full]\n"),
    ],
)
def test_an_error_of_ours_is_one_line(
    raised: Exception, status: int, line: str, failing: list[BaseException], capsys: pytest.CaptureFixture[str]
):
    failing.append(raised)
    assert cli.run(["boom"]) == status
    assert capsys.readouterr().err == line


def test_ctrl_c_is_130(failing: list[BaseException], capsys: pytest.CaptureFixture[str]):
    failing.append(KeyboardInterrupt())
    assert cli.run(["boom"]) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_a_question_nobody_answers_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], failing: list[BaseException]
):
    failing.append(EOFError())
    assert cli.run(["boom"]) == 1
    assert "[no_answer]" in capsys.readouterr().err


def test_an_exit_status_of_a_command_is_passed_on(failing: list[BaseException]):
    failing.append(click.exceptions.Exit(3))
    assert cli.run(["boom"]) == 3


def test_a_reader_that_goes_away_makes_no_traceback(tmp_path: Path):
    """`pendra config list | head -0`."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "ops.cli", "config", "list"],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PENDRA_HOME": str(tmp_path)},
        timeout=60,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")
