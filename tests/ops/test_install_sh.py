"""`ops/install.sh` on hosts of many kinds, made of stand-ins: what it finds missing, does, keeps, and leaves."""

from __future__ import annotations

import base64
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.redis_client import connect
from tests.ops.hosts import GPU, NO_RUNTIME, ROOT, ROOTLESS, Host, docker

KEY = base64.b64encode(bytes(range(32))).decode()
OTHER = base64.b64encode(bytes(range(1, 33))).decode()
QUIET = ("--non-interactive", "--key", KEY)
SCRIPTS = sorted([*ROOT.glob("ops/*.sh"), *ROOT.glob("ops/*/*.sh")])


@pytest.fixture
def gpu_host(tmp_path: Path) -> Host:
    return Host(tmp_path, {"docker": docker(), "nvidia-smi": GPU})


@pytest.fixture
def cpu_host(tmp_path: Path) -> Host:
    return Host(tmp_path, {"docker": docker()})


def test_shellcheck_finds_nothing():
    linter = Path(sys.executable).with_name("shellcheck")
    found = str(linter) if linter.exists() else shutil.which("shellcheck")
    assert found, "shellcheck is in the dev extra: pip install -e .[dev]"
    done = subprocess.run([found, *map(str, SCRIPTS)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert len(SCRIPTS) >= 4


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_every_script_is_posix(script):
    assert script.read_text().startswith("#!/bin/sh\n")


# ---------------------------------------------------------------- what is missing, and its fix

HOSTS = {
    "no docker": ({}, "Linux", (), "Docker Engine", "https://get.docker.com"),
    "no engine": (
        {"docker": docker(fault="Cannot connect to the Docker daemon")},
        "Linux",
        (),
        "engine does not run",
        "systemctl enable --now docker",
    ),
    "not allowed": (
        {"docker": docker(fault="permission denied while trying to connect")},
        "Linux",
        (),
        "may not talk",
        "usermod -aG docker",
    ),
    "no compose": (
        {"docker": docker(compose=None)},
        "Linux",
        (),
        "Compose v2",
        "apt-get install -y docker-compose-plugin",
    ),
    "compose 1 only": (
        {"docker": docker(compose=None), "docker-compose": "echo 1.29.2"},
        "Linux",
        (),
        "version 1",
        "docker-compose-plugin",
    ),
    "old compose": (
        {"docker": docker(compose="2.9.0")},
        "Linux",
        (),
        "2.20 or newer (here: 2.9.0)",
        "docker-compose-plugin",
    ),
    "no toolkit": (
        {"docker": docker(runtimes=NO_RUNTIME), "nvidia-smi": GPU},
        "Linux",
        (),
        "NVIDIA Container Toolkit",
        "apt-get install -y nvidia-container-toolkit",
    ),
    "toolkit not configured": (
        {"docker": docker(runtimes=NO_RUNTIME), "nvidia-smi": GPU, "nvidia-ctk": ""},
        "Linux",
        (),
        "does not know the NVIDIA runtime",
        "nvidia-ctk runtime configure --runtime=docker",
    ),
    "cuda without a GPU": ({"docker": docker()}, "Linux", ("--build", "cuda"), "NVIDIA GPU", "--build cpu"),
    "rootless without its setting": (
        {"docker": docker(security=ROOTLESS), "nvidia-smi": GPU},
        "Linux",
        (),
        "rootless",
        "nvidia-container-cli.no-cgroups",
    ),
    "a Mac without Python": ({}, "Darwin", (), "Python 3.11", "install"),
    "a Mac, containers": ({}, "Darwin", ("--build", "cpu"), "Docker", "brew install --cask docker"),
    "native, no compiler": ({"python3": "exit 0"}, "Linux", ("--native",), "compiler", "build-essential"),
    "native, old Python": (
        {"python3": "exit 1", "cc": ""},
        "Linux",
        ("--native",),
        "3.11 or newer",
        "python3.11-venv",
    ),
    "metal on Linux": ({"python3": "", "cc": ""}, "Linux", ("--build", "metal"), "macOS", "--build cpu"),
    "rocm": ({"python3": "", "cc": ""}, "Linux", ("--build", "rocm"), "hipcc", "rocm.docs.amd.com"),
    "vulkan": ({"python3": "", "cc": ""}, "Linux", ("--build", "vulkan"), "glslc", "apt-get install -y glslc"),
}


@pytest.mark.parametrize("name", HOSTS)
def test_what_is_missing_is_named_with_its_fix(name, tmp_path):
    programs, system, args, what, fix = HOSTS[name]
    host = Host(tmp_path, programs, system)
    done = host.run(*QUIET, *args)
    assert done.returncode == 3, done.stdout + done.stderr
    assert what in done.stderr
    assert fix in done.stderr.partition("fix:")[2]
    assert "nothing was changed" in done.stderr
    assert not host.secrets.exists()
    assert not host.env_file.exists()


def test_all_that_is_missing_comes_at_once_and_fixes_are_of_this_system(tmp_path):
    host = Host(tmp_path, {"docker": docker(compose=None, runtimes=NO_RUNTIME), "nvidia-smi": GPU}, packages="dnf")
    done = host.run(*QUIET)
    assert done.stderr.count("fix:") == 2
    assert "sudo dnf install -y nvidia-container-toolkit" in done.stderr


def test_rootless_with_its_setting_is_fine(tmp_path):
    (tmp_path / "nvidia.toml").write_text("[nvidia-container-cli]\nno-cgroups = true\n")
    host = Host(tmp_path, {"docker": docker(security=ROOTLESS), "nvidia-smi": GPU})
    assert host.run(*QUIET).returncode == 0


# ---------------------------------------------------------------- what it does


def test_a_gpu_host(gpu_host):
    done = gpu_host.run(*QUIET, "--models", "smollm2:135m,qwen3:4b", "--backends", "ollama")
    assert done.returncode == 0, done.stdout + done.stderr
    settings = gpu_host.settings()
    assert settings["PENDRA_GPU_WORKERS"] == "1"
    assert settings["COMPOSE_PROFILES"] == ""
    assert settings["PENDRA_PRELOAD"] == "smollm2:135m,qwen3:4b"
    assert {name for name, value in settings.items() if value == "off"} == {
        "VLLM_ENDPOINT",
        "LMSTUDIO_ENDPOINT",
        "SPEACHES_ENDPOINT",
    }
    started = [call for call in gpu_host.calls if " up -d --wait" in call]
    assert [call.partition("300 ")[2].split() for call in started] == [["redis", "bridge", "flower", "worker"]]
    assert any("exec -T worker pendra models install qwen3:4b" in call for call in gpu_host.calls)


def test_a_host_without_a_gpu_gets_a_cpu_worker(cpu_host):
    assert cpu_host.run(*QUIET, "--monitoring").returncode == 0
    settings = cpu_host.settings()
    assert settings["PENDRA_GPU_WORKERS"] == "0"
    assert settings["COMPOSE_PROFILES"] == "cpu,monitoring"
    built = [call for call in cpu_host.calls if " build " in call]
    assert built
    assert all(call.endswith(" build bridge worker-cpu") for call in built)  # never the CUDA image
    started = next(call for call in cpu_host.calls if " up -d" in call)
    assert started.endswith(" redis bridge flower worker-cpu prometheus grafana")


def test_the_secrets(cpu_host):
    cpu_host.run(*QUIET)
    assert stat.S_IMODE(cpu_host.secrets.stat().st_mode) == 0o700
    assert cpu_host.secret("worker_key") == KEY
    assert len(base64.b64decode(cpu_host.secret("fleet_key"))) == 32
    password = re.search(r">(\w{48}) ", cpu_host.secret("redis_acl"))
    assert password
    assert cpu_host.secret("redis_url") == f"redis://pendra:{password[1]}@redis:6379/0"
    connect(cpu_host.secret("redis_url"))
    assert cpu_host.secret("redis_acl").startswith("user default off\n")
    assert re.fullmatch(r"pendra:\w{48}", cpu_host.secret("flower_auth"))
    assert {path.name for path in cpu_host.secrets.iterdir()} == {
        "worker_key",
        "fleet_key",
        "redis_acl",
        "redis_url",
        "flower_auth",
        "grafana_password",
    }
    assert KEY not in cpu_host.env_file.read_text()
    assert KEY not in "".join(cpu_host.calls)


def test_a_local_api_needs_no_key_and_lets_its_bridge_in(cpu_host):
    done = cpu_host.run("--non-interactive", "--local-api")
    assert done.returncode == 0, done.stderr
    assert cpu_host.settings()["APP_SERVER_WS_URL"] == "ws://controlplane:8080"
    assert "local-api" in cpu_host.settings()["COMPOSE_PROFILES"]
    assert any("exec -T controlplane pendra identities enrol PUBLICKEY" in call for call in cpu_host.calls)


def test_twice_is_once(cpu_host):
    cpu_host.run(*QUIET)
    before = {path.name: path.read_bytes() for path in cpu_host.secrets.iterdir()}
    settings = cpu_host.env_file.read_text()
    again = cpu_host.run(*QUIET)
    assert again.returncode == 0
    assert {path.name: path.read_bytes() for path in cpu_host.secrets.iterdir()} == before
    assert cpu_host.env_file.read_text() == settings


def test_a_configuration_is_never_overwritten(cpu_host):
    cpu_host.run(*QUIET)
    done = cpu_host.run("--non-interactive", "--key", OTHER)
    assert done.returncode == 4
    assert "not overwritten" in done.stderr
    assert cpu_host.secret("worker_key") == KEY
    cpu_host.env_file.write_text("PENDRA_PRELOAD=mine\n")
    done = cpu_host.run("--non-interactive", "--models", "other:1b")
    assert "kept: PENDRA_PRELOAD=mine" in done.stdout
    assert cpu_host.settings()["PENDRA_PRELOAD"] == "mine"


def test_a_dry_run_does_nothing(gpu_host):
    done = gpu_host.run(*QUIET, "--dry-run", "--models", "smollm2:135m")
    assert done.returncode == 0
    assert "would run: docker compose" in done.stdout
    assert "would write:" in done.stdout
    assert not gpu_host.secrets.exists()
    assert not gpu_host.env_file.exists()
    assert not [call for call in gpu_host.calls if " up " in call or " build" in call]
    assert KEY not in done.stdout + done.stderr


def test_a_dry_run_tells_what_is_missing_and_goes_on(tmp_path):
    done = Host(tmp_path).run(*QUIET, "--dry-run")
    assert done.returncode == 0
    assert "Docker Engine" in done.stderr


def test_upgrade_builds_anew_and_changes_nothing_else(cpu_host):
    assert cpu_host.run("--upgrade").returncode == 2
    cpu_host.run(*QUIET, "--no-start")
    assert not [call for call in cpu_host.calls if " up " in call]
    before = cpu_host.env_file.read_text()
    assert cpu_host.run("--upgrade").returncode == 0
    assert any(call.endswith("build --pull bridge worker-cpu") for call in cpu_host.calls)
    assert cpu_host.env_file.read_text() == before


def test_uninstall_leaves_models_keys_and_configuration(cpu_host):
    cpu_host.run(*QUIET)
    done = cpu_host.run("--uninstall")
    assert done.returncode == 0
    down = [call for call in cpu_host.calls if " down" in call]
    assert len(down) == 1
    assert "-v" not in down[0].split()
    assert cpu_host.secret("worker_key") == KEY


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--key", "short"], "44 characters"),
        (["--build", "opencl"], "cuda, rocm"),
        (["--backends", "llamafile"], "ollama, vllm"),
        (["--models", "a b"], "joined by commas"),
        (["--modles", "a"], "no option --modles"),
        (["--key"], "needs a value"),
        ([], "--key-file FILE, or --local-api"),
    ],
)
def test_wrong_usage_is_said(cpu_host, args, words):
    done = cpu_host.run("--non-interactive", *args)
    assert done.returncode == 2
    assert words in done.stderr
    assert not cpu_host.secrets.exists()


def test_a_native_dry_run_names_the_wheels(tmp_path):
    python = f'[ "$1" = -m ] && [ "$2" = ops.wheels ] && exec {sys.executable} "$@"; exit 0'
    done = Host(tmp_path, {"python3": python, "cc": ""}).run(*QUIET, "--native", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "would run: python3 -m venv" in done.stdout
    assert "abetlen.github.io/llama-cpp-python/whl/cpu" in done.stdout or "pip install" in done.stdout
    assert KEY not in done.stdout
