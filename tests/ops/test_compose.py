"""What can be known of the compose files without an engine: they fit the Compose specification's schema, say what the
project can do, and keep the promises of docs/install.md."""

from __future__ import annotations

import json
import re
import ssl
import stat
import subprocess
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from click.testing import CliRunner

from ops.cli import COMMANDS, cli

ROOT = Path(__file__).resolve().parents[2]
OVERRIDES = sorted((ROOT / "ops" / "compose").glob("*.yml"))
OURS = {"bridge", "worker", "worker-cpu", "flower", "controlplane"}
PROFILES = {
    "worker-cpu": ["cpu"],
    "controlplane": ["local-api"],
    "prometheus": ["monitoring"],
    "grafana": ["monitoring"],
}


def read(path: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(path.read_text()))


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return read(ROOT / "docker-compose.yml")


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    """The Compose specification's own, as check-jsonschema carries it (Apache-2.0)."""
    text = resources.files("check_jsonschema").joinpath("builtin_schemas/vendor/compose-spec.json").read_text()
    return dict(json.loads(text))


@pytest.mark.parametrize("path", [ROOT / "docker-compose.yml", *OVERRIDES], ids=lambda path: path.stem)
def test_it_fits_the_compose_schema(path, schema):
    kind = jsonschema.validators.validator_for(schema)
    errors = [f"{error.json_path}: {error.message}" for error in kind(schema).iter_errors(read(path))]
    assert errors == []


def test_the_schema_would_notice(compose, schema):
    wrong = {"services": {"redis": {"image": "x", "restrat": "always"}}}
    assert list(jsonschema.validators.validator_for(schema)(schema).iter_errors(wrong))


def test_the_parts_and_their_profiles(compose):
    services = compose["services"]
    assert set(services) == OURS | {"redis", "prometheus", "grafana"}
    assert {name: one["profiles"] for name, one in services.items() if "profiles" in one} == PROFILES


def test_every_pendra_command_exists_with_its_options(compose):
    for name in OURS:
        command = compose["services"][name]["command"]
        assert command[0] == "pendra"
        assert command[1] in COMMANDS
        options = {part.partition("=")[0] for part in command[2:]}
        assert options <= set(re.findall(r"--[a-z-]+", CliRunner().invoke(cli, [command[1], "--help"]).output)), name


@pytest.mark.parametrize("path", [ROOT / "docker-compose.yml", ROOT / "ops/compose/fleet.yml"], ids=["own", "fleet"])
def test_redis_keeps_nothing_and_knows_only_users_of_its_acl(path):
    command = read(path)["services"]["redis"]["command"]
    said = dict(zip(command[1::2], command[2::2], strict=True))
    assert said["--save"] == ""
    assert said["--appendonly"] == "no"
    assert said["--aclfile"] == "/run/secrets/redis_acl"
    assert said["--maxmemory-policy"] == "noeviction"


def test_redis_is_not_published_and_has_no_way_out(compose):
    redis = compose["services"]["redis"]
    assert "ports" not in redis
    assert redis["networks"] == ["fleet"]
    assert compose["networks"]["fleet"]["internal"] is True


def test_the_fleet_override_publishes_redis_with_tls_only():
    redis = read(ROOT / "ops/compose/fleet.yml")["services"]["redis"]
    said = dict(zip(redis["command"][1::2], redis["command"][2::2], strict=True))
    assert [port.rpartition(":")[2] for port in redis["ports"]] == [said["--tls-port"]] == ["6380"]
    assert said["--tls-protocols"] == "TLSv1.2 TLSv1.3"
    mounted = {f"/run/secrets/{name}" for name in redis["secrets"]}
    assert {said[name] for name in said if name.endswith("-file") or name == "--aclfile"} <= mounted


def test_only_this_machine_reaches_what_is_published(compose):
    ports = [port for one in compose["services"].values() for port in one.get("ports", ())]
    assert len(ports) == 3
    assert all(re.match(r"\$\{\w+:-127\.0\.0\.1\}:", port) for port in ports)


def test_every_part_is_locked_down(compose):
    for name, one in compose["services"].items():
        assert one["read_only"] is True, name
        assert one["cap_drop"] == ["ALL"], name
        assert one["security_opt"] == ["no-new-privileges:true"], name
        assert one["tmpfs"], name
        assert not str(one["user"]).startswith(("0", "root")), name
        assert "privileged" not in one, name


def test_every_part_restarts_is_watched_and_limited(compose):
    for name, one in compose["services"].items():
        assert one["restart"] == "unless-stopped", name
        assert one["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}, name
        assert {"memory", "pids"} <= set(one["deploy"]["resources"]["limits"]), name
    waiting = {name for name, one in compose["services"].items() if "redis" in one.get("depends_on", {})}
    assert waiting == OURS - {"controlplane"}


def test_workers_have_every_gpu_and_the_other_images_are_pinned(compose):
    worker = compose["services"]["worker"]
    assert worker["deploy"]["resources"]["reservations"]["devices"] == [
        {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}
    ]
    for name in ("redis", "prometheus", "grafana"):
        assert re.search(r":v?\d+\.\d+\.\d+$", compose["services"][name]["image"]), name


def test_secrets_are_files_and_only_where_they_are_needed(compose):
    for name, one in compose["services"].items():
        for key, value in one.get("environment", {}).items():
            if any(word in key for word in ("PASSWORD", "KEY", "AUTH", "REDIS_URL")):
                assert key.endswith("_FILE"), (name, key)
                if str(value).startswith("${"):
                    continue  # a file of the operator's own, for another server
                path = str(value).removeprefix("/run/secrets/")
                assert path in one["secrets"] or path == "/keys/workload-key", (name, key)
    holders = {
        secret: {name for name, one in compose["services"].items() if secret in one.get("secrets", ())}
        for secret in compose["secrets"]
    }
    assert holders["worker_key"] == {"bridge"}
    assert holders["fleet_key"] == {"bridge", "worker", "worker-cpu"}
    assert holders["redis_acl"] == {"redis"}
    assert all(holders.values())


def test_the_images_it_builds_are_described(compose):
    for name in OURS:
        build = compose["services"][name]["build"]
        assert (ROOT / build["context"] / build["dockerfile"]).is_file()


def test_what_it_mounts_from_here_is_here(compose):
    mounts = [str(mount) for one in compose["services"].values() for mount in one.get("volumes", ())]
    ours = [mount.partition(":")[0] for mount in mounts if mount.startswith("./")]
    assert len(ours) == 3
    assert all((ROOT / path).is_dir() for path in ours)
    named = {mount.partition(":")[0] for mount in mounts if not mount.startswith("./")}
    assert named == set(compose["volumes"])


def test_prometheus_asks_the_port_where_the_bridge_tells(compose):
    jobs = read(ROOT / "ops/prometheus/prometheus.yml")["scrape_configs"]
    targets = {target for job in jobs for one in job["static_configs"] for target in one["targets"]}
    port = compose["services"]["bridge"]["environment"]["PENDRA_METRICS_PORT"]
    assert f"bridge:{port}" in targets
    assert {target.partition(":")[0] for target in targets} <= set(compose["services"]) | {"localhost"}


def test_who_has_a_part_in_requests_may_send_traces_and_nobody_does_unasked(compose):
    for name in OURS - {"flower"}:
        environment = compose["services"][name]["environment"]
        assert environment["OTEL_EXPORTER_OTLP_ENDPOINT"] == "${OTEL_EXPORTER_OTLP_ENDPOINT:-}", name


@pytest.mark.parametrize("name", ["cpu", "cuda"])
def test_the_images_can_send_traces(name):
    assert '".[otel]"' in (ROOT / f"ops/docker/{name}.Dockerfile").read_text()


@pytest.mark.parametrize("name", ["worker", "worker-cpu"])
def test_workers_reach_the_servers_of_their_host(compose, name):
    service = compose["services"][name]
    assert "host.docker.internal:host-gateway" in service["extra_hosts"]
    assert {"OLLAMA_ENDPOINT", "VLLM_ENDPOINT", "LMSTUDIO_ENDPOINT", "SPEACHES_ENDPOINT"} <= set(
        service["environment"]
    )


def test_only_workers_mount_the_workload_key(compose):
    having = {name for name, one in compose["services"].items() if "keys:/keys" in one.get("volumes", ())}
    told = {
        name for name, one in compose["services"].items() if "PENDRA_WORKLOAD_KEY_FILE" in one.get("environment", {})
    }
    assert having == told == {"worker", "worker-cpu"}


# ------------------------------------------------------------------ redis_tls.sh


def make_certificates(folder: Path, *names: str) -> str:
    argv = ["/bin/sh", str(ROOT / "ops/compose/redis_tls.sh"), *names]
    env = {"PATH": "/usr/bin:/bin", "PENDRA_SECRETS": str(folder)}
    return subprocess.run(argv, env=env, capture_output=True, text=True, check=True, timeout=60).stdout


def shake_hands(folder: Path, name: str) -> None:
    """A TLS handshake between a server with the made certificate and a client that trusts the made CA only."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "redis_cert.pem", folder / "redis_cert_key.pem")
    client = ssl.create_default_context(cafile=str(folder / "redis_ca.pem"))
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue


def test_the_certificates_stand_for_the_names_asked_for_and_no_other(tmp_path):
    said = make_certificates(tmp_path / "s", "redis.example.org", "127.0.0.1")
    assert "DNS:redis.example.org,IP:127.0.0.1" in said
    shake_hands(tmp_path / "s", "redis.example.org")
    shake_hands(tmp_path / "s", "127.0.0.1")
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(tmp_path / "s", "other.example.org")


def test_certificates_that_exist_are_kept_and_the_folder_is_private(tmp_path):
    folder = tmp_path / "s"
    make_certificates(folder, "a.example.org")
    before = (folder / "redis_cert.pem").read_bytes()
    assert make_certificates(folder, "b.example.org") == ""
    assert (folder / "redis_cert.pem").read_bytes() == before
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "redis_ca_key.pem").stat().st_mode) == 0o600
