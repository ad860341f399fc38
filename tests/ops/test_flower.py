"""Flower never starts open, and its password is never an argument."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ops.commands.flower import command


class Exec:
    """Stands in for execve: keeps what would have replaced us."""

    def __init__(self) -> None:
        self.argv: list[str] = []
        self.env: dict[str, str] = {}

    def __call__(self, _path: str, argv: list[str], env: dict[str, str]) -> None:
        self.argv, self.env = argv, dict(env)


@pytest.fixture
def execve(monkeypatch: pytest.MonkeyPatch) -> Exec:
    fake = Exec()
    monkeypatch.setattr(os, "execve", fake)
    monkeypatch.delenv("FLOWER_BASIC_AUTH", raising=False)
    return fake


@pytest.mark.parametrize("args", [[], ["--basic-auth", "me"], ["--basic-auth", "me:"], ["--basic-auth", "a:b,c"]])
def test_refused_without_a_password(execve: Exec, args: list[str]) -> None:
    done = CliRunner().invoke(command, args)
    assert done.exit_code == 2
    assert "FLOWER_BASIC_AUTH" in done.output
    assert execve.argv == []


@pytest.mark.parametrize("how", ["option", "environment", "file"])
def test_the_password_travels_in_the_environment(execve: Exec, how: str, tmp_path: Path) -> None:
    env: dict[str, Any] = {"FLOWER_UNAUTHENTICATED_API": "true"}
    args = ["--port", "5999", "--max_tasks=100"]
    if how == "option":
        args += ["--basic-auth", "me:hush"]
    elif how == "environment":
        env["FLOWER_BASIC_AUTH"] = "me:hush"
    else:
        (tmp_path / "auth").write_text("me:hush\n")
        env["FLOWER_BASIC_AUTH_FILE"] = str(tmp_path / "auth")
    CliRunner().invoke(command, args, env=env)
    assert execve.env["FLOWER_BASIC_AUTH"] == "me:hush"
    assert "FLOWER_UNAUTHENTICATED_API" not in execve.env
    assert "hush" not in " ".join(execve.argv)
    assert execve.argv[1:5] == ["-m", "celery", "-A", "tasks"]
    assert {"--port=5999", "--address=127.0.0.1", "--max_tasks=100"} <= set(execve.argv)
