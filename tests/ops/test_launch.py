"""From options to parts: a taken port is named, keys are made once and stay private."""

from __future__ import annotations

import socket
import stat
from pathlib import Path

import pytest

from ops.launch import Address, PortTakenError, free_address, workers_only
from ops.local_keys import kept
from ops.stack import Serving
from tasks.errors import ConfigError
from tasks.sealing import FleetKey
from tasks.settings import load_settings


def test_a_taken_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(PortTakenError, match=rf"127\.0\.0\.1 port {port}.*--port"):
            free_address("127.0.0.1", port)


def test_a_port_just_left_can_be_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            server.accept()[0].close()
    assert free_address("127.0.0.1", port).port == port


def test_port_zero_takes_a_free_one() -> None:
    assert free_address("127.0.0.1", 0).port > 0


def test_a_host_that_is_not_ours() -> None:
    with pytest.raises(PortTakenError, match=r"192\.0\.2\.1"):
        free_address("192.0.2.1", 8080)


@pytest.mark.parametrize(
    ("host", "url", "ws_url"),
    [
        ("127.0.0.1", "http://127.0.0.1:80", "ws://127.0.0.1:80"),
        ("0.0.0.0", "http://127.0.0.1:80", "ws://127.0.0.1:80"),  # noqa: S104  # what people ask for
        ("::", "http://[::1]:80", "ws://[::1]:80"),
    ],
)
def test_what_is_dialled(host: str, url: str, ws_url: str) -> None:
    address = Address(host, 80)
    assert (address.url, address.ws_url) == (url, ws_url)


def test_a_key_is_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "home" / "bridge-key"
    made = iter(["first", "second"])
    assert [kept(path, lambda: next(made)) for _ in range(2)] == ["first", "first"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_key_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bridge-key"
    kept(path, lambda: "secret-words")
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600") as refused:
        kept(path, lambda: "other")
    assert "secret-words" not in str(refused.value)


def test_an_empty_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bridge-key"
    kept(path, lambda: "secret")
    path.write_text("")
    with pytest.raises(ConfigError, match="empty"):
        kept(path, lambda: "other")


@pytest.mark.parametrize(("ollama", "proxies"), [("off", 0), ("", 1), ("http://gpu7:11434", 1)])
def test_a_host_has_a_proxy_unless_all_backends_are_off(tmp_path: Path, ollama: str, proxies: int) -> None:
    others = dict.fromkeys(("vllm_endpoint", "lmstudio_endpoint", "speaches_endpoint"), "off")
    key = FleetKey.generate().to_base64()
    settings = load_settings(home=tmp_path, worker_id="w", fleet_key=key, ollama_endpoint=ollama, **others)
    launch = workers_only(settings, Serving(), workers=1)
    assert [spec.role for spec in launch.specs].count("proxy") == proxies
