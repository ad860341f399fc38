"""What an install that was asked for from afar may reach: public servers over https, and nothing else."""

from __future__ import annotations

import socket
from ipaddress import ip_address
from typing import Any

import httpcore
import httpx
import pytest

from worker.store import reach
from worker.store.errors import DownloadError, SourceError
from worker.store.planner import InstallSpec
from worker.store.reach import PublicBackend, PublicTransport, is_public

PUBLIC, OTHER_PUBLIC = "93.184.215.14", "93.184.215.15"
PRIVATE = [
    "127.0.0.1",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",  # noqa: S104  # nobody listens here
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "fe80::1",
    "fc00::1",
    "ff02::1",
    "::ffff:127.0.0.1",
    "64:ff9b::7f00:1",
    "2002:7f00:1::",
    "2001:0:7f00:1::1",
]


class Dns:
    """Answers as told, and counts."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked = 0

    def __call__(self, host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        found = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]


@pytest.fixture
def dialled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Addresses that would have been connected to."""
    seen: list[str] = []

    def connect(_: object, host: str, *__: object, **___: object) -> httpcore.NetworkStream:
        seen.append(host)
        raise httpcore.ConnectError("nobody is there")

    monkeypatch.setattr(httpcore.SyncBackend, "connect_tcp", connect)
    return seen


def spec(source: str, *mirrors: str) -> InstallSpec:
    return InstallSpec(id="m", source=source, sha256="ab" * 32, mirrors=mirrors)


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize("address", [PUBLIC, "2606:2800:21f:cb07:6820:80da:af6b:8b2c", f"::ffff:{PUBLIC}"])
def test_public_addresses(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    "source",
    [
        "file:///etc/x.gguf",
        "http://example.org/x.gguf",
        "https://localhost/x.gguf",
        "https://LOCALHOST./x.gguf",
        "https://nas/x.gguf",
        "https://nas.local/x.gguf",
        "https://metadata.google.internal/x.gguf",
        *(f"https://{f'[{a}]' if ':' in a else a}/x.gguf" for a in PRIVATE),
    ],
)
def test_sources_that_are_refused_before_anything_is_done(source: str) -> None:
    with pytest.raises(SourceError, match="PENDRA_PRIVATE_SOURCES"):
        reach.check(spec(source))
    with pytest.raises(SourceError):
        reach.check(spec("https://example.org/x.gguf", source))


@pytest.mark.parametrize(
    "source",
    ["https://example.org/x.gguf", "hf://org/repo/x.gguf", "pypi://pkg/1.0/x.gguf", f"https://{PUBLIC}/x.gguf"],
)
def test_sources_that_may_be(source: str) -> None:
    reach.check(spec(source))


@pytest.mark.parametrize("answer", [["127.0.0.1"], [PUBLIC, "10.0.0.1"], ["::1"], ["fe80::1%eth0"]])
def test_a_name_that_leads_inside(answer: list[str], dialled: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", Dns(answer))
    with httpx.Client(transport=PublicTransport()) as client, pytest.raises(DownloadError, match="private network"):
        client.get("https://example.org/x.gguf")
    assert dialled == []


def test_a_name_that_changes_its_mind(dialled: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked once a connection, and what was judged is what is dialled."""
    dns = Dns([PUBLIC], ["127.0.0.1"])
    monkeypatch.setattr(socket, "getaddrinfo", dns)
    with httpx.Client(transport=PublicTransport()) as client:
        with pytest.raises(httpx.ConnectError):
            client.get("https://example.org/x.gguf")
        assert (dialled, dns.asked) == ([PUBLIC], 1)
        with pytest.raises(DownloadError):
            client.get("https://example.org/x.gguf")
    assert dialled == [PUBLIC]


def test_every_public_address_is_tried(dialled: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", Dns([PUBLIC, OTHER_PUBLIC]))
    with pytest.raises(httpcore.ConnectError):
        PublicBackend().connect_tcp("example.org", 443)
    assert dialled == [PUBLIC, OTHER_PUBLIC]


class SendsOn(httpx.BaseTransport):
    def __init__(self, to: str) -> None:
        self._to = to

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(302, headers={"location": self._to}, request=request)


@pytest.mark.parametrize("to", ["http://example.org/x.gguf", "https://127.0.0.1/x.gguf", "https://[::1]/x.gguf"])
def test_a_redirect_inside(to: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with a proxy, where only what stands in the URL can be judged."""
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    options = reach.client_options()
    assert "transport" not in options
    with (
        httpx.Client(transport=SendsOn(to), follow_redirects=True, **options) as client,
        pytest.raises(DownloadError, match="PENDRA_PRIVATE_SOURCES"),
    ):
        client.get("https://example.org/x.gguf")


def test_a_transport_judges_each_hop_by_itself(dialled: list[str]) -> None:
    with httpx.Client(transport=PublicTransport()) as client:
        for url in ("http://example.org/", "https://169.254.169.254/latest/meta-data"):
            with pytest.raises(DownloadError):
                client.get(url)
    assert dialled == []


@pytest.mark.usefixtures("dialled")
def test_without_a_proxy_the_environment_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    assert isinstance(reach.client_options()["transport"], PublicTransport)
