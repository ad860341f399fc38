"""The systemd units: systemd finds nothing wrong (where it is installed), they are hardened, and name what exists."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from ops.cli import COMMANDS, cli

ROOT = Path(__file__).resolve().parents[2]
UNITS = sorted((ROOT / "ops" / "systemd").glob("*.service"))
HARDENED = {
    "NoNewPrivileges": "yes",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "CapabilityBoundingSet": "",
    "LimitCORE": "0",  # prompts are in memory
    "UMask": "0077",
}


class _Unit(configparser.RawConfigParser):
    def optionxform(self, optionstr: str) -> str:
        return optionstr


@pytest.fixture(params=UNITS, ids=lambda path: path.stem)
def unit(request: pytest.FixtureRequest) -> _Unit:
    parser = _Unit(strict=False, delimiters=("=",), interpolation=None)
    parser.read_string(request.param.read_text())
    return parser


def test_the_units():
    assert [path.stem for path in UNITS] == ["pendra-bridge", "pendra-controlplane", "pendra-flower", "pendra-worker"]


def test_systemd_finds_nothing_wrong(tmp_path):
    verify = shutil.which("systemd-analyze")
    if verify is None:
        pytest.skip("systemd-analyze is not installed")
    for path in UNITS:  # the program is not installed where the tests run
        text = path.read_text().replace("/opt/pendra/bin/pendra", "/bin/true").replace("User=pendra", "User=root")
        (tmp_path / path.name).write_text(text.replace("Group=pendra", "Group=root"))
    names = [str(tmp_path / path.name) for path in UNITS]
    done = subprocess.run(
        [verify, "verify", "--man=no", *names], capture_output=True, text=True, check=False, timeout=60
    )
    ours = [line for line in (done.stdout + done.stderr).splitlines() if "pendra" in line]
    assert ours == []


def test_they_are_hardened_and_come_back(unit):
    service = unit["Service"]
    assert {name: service[name] for name in HARDENED} == HARDENED
    assert service["User"] == "pendra"
    assert service["Restart"] == "always"


def test_the_command_exists_with_its_options(unit):
    program, command, *options = unit["Service"]["ExecStart"].split()
    assert program == "/opt/pendra/bin/pendra"
    assert command in COMMANDS
    known = set(re.findall(r"--[a-z-]+", CliRunner().invoke(cli, [command, "--help"]).output))
    assert {option.partition("=")[0] for option in options} <= known


def test_only_the_worker_sees_devices():
    private = {path.stem for path in UNITS if "PrivateDevices=yes" in path.read_text()}
    assert private == {path.stem for path in UNITS} - {"pendra-worker"}


def test_secrets_come_as_credentials(unit):
    text = "\n".join(f"{name}={value}" for name, value in unit["Service"].items())
    assert not re.search(r"(PRIVATE_KEY|BASIC_AUTH|FLEET_KEY)=", text)
