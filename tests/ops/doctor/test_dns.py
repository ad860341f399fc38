"""The API's name: looked up here, unless a proxy does."""

from __future__ import annotations

import pytest

from ops.doctor import dns
from ops.doctor.verdict import Level


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def test_a_name_with_an_address_is_fine():
    (verdict,) = dns.look("ws://localhost:1")
    assert verdict.level is Level.OK


def test_a_name_without_one_is_a_failure():
    (verdict,) = dns.look("wss://no-such-host.invalid")
    assert (verdict.level, "no-such-host.invalid" in verdict.found) == (Level.FAILED, True)


def test_behind_a_proxy_nobody_here_needs_to_know_the_name(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    (verdict,) = dns.look("wss://no-such-host.invalid")
    assert verdict.level is Level.SKIPPED


def test_no_proxy_is_heeded(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    monkeypatch.setenv("NO_PROXY", ".site")
    assert dns.through_proxy("wss://api.pendra.ai")
    assert not dns.through_proxy("wss://api.site")
