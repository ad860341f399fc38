"""The Helm chart: its values fit their schema, and what it renders is what we mean.

There is no helm on the machines of the tests. `make chart-check` renders the chart with Go's templates into
tests/data/chart and checks that against Kubernetes' schemas; here that is held to be of this chart, and looked at.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from click.testing import CliRunner

from ops.cli import cli
from tests.ops.chart.digest import CHART, digest

DATA = Path(__file__).resolve().parents[1] / "data" / "chart"
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
FILES = sorted((CHART / "ci").glob("*.yaml"))


def merged(over: dict[str, Any], under: dict[str, Any] = VALUES) -> dict[str, Any]:
    both = dict(under)
    for name, value in over.items():
        nested = isinstance(value, dict) and isinstance(both.get(name), dict)
        both[name] = merged(value, both[name]) if nested else value
    return both


def faults(values: dict[str, Any]) -> list[str]:
    return [error.json_path for error in jsonschema.Draft7Validator(SCHEMA).iter_errors(merged(values))]


def rendered(name: str) -> list[dict[str, Any]]:
    return [one for one in yaml.safe_load_all((DATA / name).read_text()) if one]


def pods(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for one in rendered(name):
        if one["kind"] in {"Deployment", "StatefulSet"}:
            yield one["metadata"]["name"], one["spec"]["template"]["spec"]


def pod(name: str, part: str) -> dict[str, Any]:
    return next(spec for found, spec in pods(name) if found.endswith(part))


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def file(request: pytest.FixtureRequest) -> str:
    return str(request.param.name)


def test_what_was_rendered_is_of_this_chart():
    assert (DATA / "digest").read_text().strip() == digest(), "the chart was changed: run `make chart-check`"


def test_the_schema_is_one():
    jsonschema.Draft7Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_values_fit(path):
    assert faults({}) == []
    assert faults(yaml.safe_load(path.read_text())) == []


@pytest.mark.parametrize(
    ("values", "where"),
    [
        ({"image": {"tag": "latest"}}, "$.image.tag"),
        ({"api": {"url": "https://api.pendra.ai"}}, "$.api.url"),
        ({"gpuWorkers": {"gpus": 0}}, "$.gpuWorkers.gpus"),
        ({"gpuWorkers": {"replica": 2}}, "$.gpuWorkers"),
        ({"cpuWorkers": {"env": {"PENDRA_FLEET_KEY": "x"}}}, "$.cpuWorkers.env"),
        ({"bridge": {"env": {"GPU_WORKER_PRIVATE_KEY": "x"}}}, "$.bridge.env"),
        ({"secrets": {"flowerAuth": "admin:admin"}}, "$.secrets.flowerAuth"),
        ({"secrets": {"workerKey": "short"}}, "$.secrets.workerKey"),
        ({"bridge": {"replicas": 2}}, "$.bridge"),
    ],
)
def test_wrong_values_are_refused(values, where):
    assert faults(values) == [where]


def test_every_pod_is_locked_down(file):
    for name, spec in pods(file):
        assert spec["automountServiceAccountToken"] is False, name
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        for one in spec["containers"]:
            assert one["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name
            assert "memory" in one["resources"]["limits"], name
            assert {"readinessProbe", "livenessProbe"} & set(one), name


def test_selectors_find_their_pods(file):
    labels = {
        one["metadata"]["name"]: one["spec"]["template"]["metadata"]["labels"]
        for one in rendered(file)
        if one["kind"] in {"Deployment", "StatefulSet"}
    }
    for one in rendered(file):
        if one["kind"] in {"Deployment", "StatefulSet"}:
            assert one["spec"]["selector"]["matchLabels"].items() <= labels[one["metadata"]["name"]].items()
        if one["kind"] == "Service":
            assert any(one["spec"]["selector"].items() <= found.items() for found in labels.values())


def test_commands_exist(file):
    for _, spec in pods(file):
        argv = spec["containers"][0].get("args", [])
        if argv[:1] == ["pendra"]:
            told = CliRunner().invoke(cli, [argv[1], "--help"])
            assert told.exit_code == 0
            assert {part.partition("=")[0] for part in argv[2:]} <= set(re.findall(r"--[a-z-]+", told.output))


def test_a_bridge_is_told_where_traces_go():
    env = {one["name"]: one.get("value") for one in pod("full.yaml", "bridge")["containers"][0]["env"]}
    assert env["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://collector:4318"


def test_gpus_and_models():
    worker = pod("full.yaml", "worker-gpu")
    assert worker["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 4
    assert worker["containers"][0]["image"] == "pendra-worker:0.1.0-cuda"
    assert worker["nodeSelector"] == {"gpu": "h200"}
    env = {one["name"]: one.get("value") for one in worker["containers"][0]["env"]}
    assert env["PENDRA_PRELOAD"] == "qwen3:4b,smollm2:135m"
    assert "nvidia.com/gpu" not in pod("full.yaml", "worker-cpu")["containers"][0]["resources"]["limits"]


def test_secrets_are_files_and_only_where_they_are_needed(file):
    for name, spec in pods(file):
        for one in spec["containers"][0].get("env", ()):
            if re.search("KEY|AUTH|REDIS_URL", one["name"]):
                assert one["name"].endswith("_FILE"), name
        mounted = json.dumps(spec["volumes"])
        assert ("worker_key" in mounted) == name.endswith("-bridge")
        assert ("workload" in mounted) == ("-worker-" in name and file == "full.yaml")
        assert ("redis_acl" in mounted) == name.endswith("-redis")


def test_secrets_of_ones_own_make_none():
    assert not [one for one in rendered("minimal.yaml") if one["kind"] == "Secret"]
    assert len([one for one in rendered("full.yaml") if one["kind"] == "Secret"]) == 3


def test_redis_keeps_nothing_and_only_the_fleet_reaches_it(file):
    args = pod(file, "-redis")["containers"][0]["args"]
    assert args[args.index("--save") + 1] == ""
    assert args[args.index("--appendonly") + 1] == "no"
    assert all("persistentVolumeClaim" not in one for one in pod(file, "-redis")["volumes"])
    policy = next(
        one for one in rendered(file) if one["kind"] == "NetworkPolicy" and one["metadata"]["name"].endswith("-redis")
    )
    assert policy["spec"]["egress"] == []
    assert list(policy["spec"]["ingress"][0]["from"][0]) == ["podSelector"]


def test_several_workers_do_not_all_leave_at_once():
    budgets = [one["metadata"]["name"] for one in rendered("full.yaml") if one["kind"] == "PodDisruptionBudget"]
    assert budgets == ["test-pendra-worker-gpu"]
