"""What can be known of docker-compose.yml without an engine: it parses, and says what the project can do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from ops.cli import COMMANDS

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "docker-compose.yml").read_text()))


def test_the_parts_of_a_fleet_are_there(compose):
    assert {"redis", "bridge", "worker", "worker-cpu", "flower"} <= set(compose["services"])


def test_every_pendra_command_exists(compose):
    commands = [s["command"] for s in compose["services"].values() if s["command"][0] == "pendra"]
    assert len(commands) >= 4
    assert {command[1] for command in commands} <= set(COMMANDS)


def test_redis_keeps_nothing_and_is_not_published(compose):
    redis = compose["services"]["redis"]
    command = redis["command"]
    assert command[command.index("--save") + 1] == ""
    assert command[command.index("--appendonly") + 1] == "no"
    assert "--requirepass" in command
    assert "ports" not in redis


def test_every_part_restarts_and_waits_for_redis(compose):
    for name, service in compose["services"].items():
        assert service["restart"] == "unless-stopped", name
        if name != "redis":
            assert service["depends_on"]["redis"]["condition"] == "service_healthy", name


def test_secrets_come_from_the_environment_only(compose):
    for service in compose["services"].values():
        for key, value in service["environment"].items():
            if any(word in key for word in ("PASSWORD", "KEY", "AUTH")):
                assert str(value).startswith("${"), key


def test_the_image_it_builds_is_described(compose):
    build = compose["services"]["worker"]["build"]
    assert (ROOT / build["context"] / build["dockerfile"]).is_file()


@pytest.mark.parametrize("name", ["worker", "worker-cpu"])
def test_workers_reach_the_servers_of_their_host(compose, name):
    service = compose["services"][name]
    assert "host.docker.internal:host-gateway" in service["extra_hosts"]
    assert {"OLLAMA_ENDPOINT", "VLLM_ENDPOINT", "LMSTUDIO_ENDPOINT", "SPEACHES_ENDPOINT"} <= set(
        service["environment"]
    )
    assert "PENDRA_REDIS_URL" in service["environment"]


def test_only_workers_mount_the_workload_key(compose):
    having = {name for name, service in compose["services"].items() if "keys:/keys" in service.get("volumes", ())}
    told = {name for name, one in compose["services"].items() if "PENDRA_WORKLOAD_KEY_FILE" in one["environment"]}
    assert having == told == {"worker", "worker-cpu"}
