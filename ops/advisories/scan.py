"""pip-audit, run as a program: what it found, or that its service does not answer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.errors import PendraError

CANARY = "jinja2==2.10"  # vulnerable to what every database has (CVE-2019-10906)
EDITABLE = "distribution marked as editable"
TIMEOUT_S = 300
SOCKET_TIMEOUT_S = 10


class UnansweredError(PendraError):
    """The service did not say what it must know; `message` is the reason."""


@dataclass(frozen=True, slots=True)
class Service:
    """Who judges: its name for people, and pip-audit's arguments."""

    name: str
    args: tuple[str, ...]


PYPI_SERVICE = Service("PyPI's advisory service", ("--vulnerability-service", "pypi"))
OSV_SERVICE = Service("osv.dev", ("--vulnerability-service", "osv"))


def osv_at(name: str, url: str) -> Service:
    return Service(name, ("--vulnerability-service", "osv", "--osv-url", url))


@dataclass(frozen=True, slots=True)
class Finding:
    package: str
    version: str
    ids: tuple[str, ...]
    fixed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """`unjudged`: packages the service knows nothing of, so that nothing can be said about them."""

    judged: int
    unjudged: tuple[str, ...]
    findings: tuple[Finding, ...]


def installed(service: Service) -> Report:
    """Judge what is installed beside this interpreter, but for ourselves. Blocking; raises UnansweredError."""
    return _run(service, "--local", "--skip-editable")


def pinned(service: Service, requirements: Path) -> Report:
    """Judge a file of `name==version` lines; nothing is installed or resolved. Blocking; raises UnansweredError."""
    return _run(service, "--requirement", str(requirements), "--no-deps", "--disable-pip")


def must_answer(service: Service) -> None:
    """Raises UnansweredError when `service` does not report a version that is known to be vulnerable."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "requirements.txt"
        file.write_text(f"{CANARY}\n")
        if not pinned(service, file).findings:
            raise UnansweredError(f"it knows nothing against {CANARY}")


def parse(output: str) -> Report:
    """pip-audit's JSON. Raises ValueError when it is none."""
    try:
        rows: list[dict[str, Any]] = json.loads(output)["dependencies"]
        judged = [row for row in rows if "vulns" in row]
        unjudged = [row["name"] for row in rows if EDITABLE not in row.get("skip_reason", EDITABLE)]
        findings = [_finding(row, vuln) for row in judged for vuln in row["vulns"]]
    except (KeyError, TypeError) as exc:
        raise ValueError(f"no report of pip-audit: {type(exc).__name__}") from None
    return Report(len(judged), tuple(unjudged), tuple(findings))


def _finding(row: dict[str, Any], vuln: dict[str, Any]) -> Finding:
    ids = (vuln["id"], *vuln.get("aliases", ()))
    return Finding(row["name"], row["version"], ids, tuple(vuln["fix_versions"]))


def _run(service: Service, *what: str) -> Report:
    with tempfile.TemporaryDirectory() as cache:
        form = ("--format", "json", "--progress-spinner", "off", "--timeout", str(SOCKET_TIMEOUT_S))
        argv = [sys.executable, "-m", "pip_audit", *form, "--cache-dir", cache, *service.args, *what]
        try:
            done = subprocess.run(
                argv, capture_output=True, text=True, check=False, timeout=TIMEOUT_S, env=_environment()
            )
        except subprocess.TimeoutExpired:
            raise UnansweredError(f"no answer within {TIMEOUT_S} s") from None
    try:
        return parse(done.stdout)
    except ValueError:
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise UnansweredError(last[:120]) from None


def _environment() -> dict[str, str]:
    """Ours, without settings that would change what pip-audit does, and with no proxy before loopback."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PIP_AUDIT_")}
    beside = ",".join(filter(None, [kept.get("no_proxy") or kept.get("NO_PROXY"), "127.0.0.1"]))
    return {**kept, "NO_PROXY": beside, "no_proxy": beside}
