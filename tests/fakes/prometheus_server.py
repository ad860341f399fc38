"""A real Prometheus for tests, with the configuration and the alerts that we ship: own folder, one free port."""

from __future__ import annotations

import shutil
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx
import pytest
import yaml

from tests.fakes.waiting import until

SHIPPED = Path(__file__).resolve().parents[2] / "ops" / "prometheus"
# as Grafana fills them in; the interval as short as what a test waits for
_VARIABLES = {"$__rate_interval": "30s", "$model": ".*", "$worker": ".*"}


def prometheus_binary() -> str:
    """What is on PATH; a test that needs it is skipped without (`apt-get install prometheus`)."""
    found = shutil.which("prometheus")
    if found is None:
        pytest.skip("needs a Prometheus: `apt-get install prometheus`")
    return found


def filled(query: str) -> str:
    """A dashboard's query as Grafana sends it."""
    for name, value in _VARIABLES.items():
        query = query.replace(name, value)
    return query


@dataclass(frozen=True)
class Answer:
    """What came of a query, and what Prometheus itself thinks of it."""

    rows: tuple[dict[str, Any], ...]
    complaints: tuple[str, ...]


class PrometheusServer:
    """Between `start` and `stop` it scrapes `target` each second; everything else is as shipped. All calls block."""

    def __init__(self, folder: Path, target: str) -> None:
        self._folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"
        self._client = httpx.Client(base_url=f"http://{self.address}", timeout=15, trust_env=False)
        self._process: subprocess.Popen[bytes] | None = None
        config = yaml.safe_load((SHIPPED / "prometheus.yml").read_text("utf-8"))
        config["global"] |= {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        config["scrape_configs"][0]["static_configs"] = [{"targets": [target]}]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        shutil.copy(SHIPPED / "alerts.yml", folder)

    def start(self) -> Self:
        argv = [prometheus_binary(), "--config.file=prometheus.yml", "--storage.tsdb.path=data", "--log.level=warn"]
        argv += [f"--web.listen-address={self.address}"]
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(argv, cwd=self._folder, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        until(self._ready, 60, 0.1)
        return self

    def stop(self) -> None:
        self._client.close()
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)

    def query(self, expression: str) -> Answer:
        """Now. An expression that Prometheus refuses has a complaint and no rows."""
        said = self._client.get("/api/v1/query", params={"query": filled(expression)}).json()
        if said["status"] != "success":
            return Answer((), (said["error"],))
        return Answer(tuple(said["data"]["result"]), tuple(said.get("warnings", ())))

    def scrapes(self) -> int:
        """How many scrapes of the bridge it has in the last minute."""
        rows = self.query("count_over_time(pendra_bridge_info[1m])").rows
        return max((int(row["value"][1]) for row in rows), default=0)

    def alerts(self) -> dict[str, dict[str, Any]]:
        """Each alert's rule by its name, with `state`, `health` and `lastError`."""
        groups = self._client.get("/api/v1/rules").raise_for_status().json()["data"]["groups"]
        return {rule["name"]: rule for group in groups for rule in group["rules"]}

    def _ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "log").read_text()
        try:
            return self._client.get("/-/ready").status_code == 200
        except httpx.HTTPError:
            return False
