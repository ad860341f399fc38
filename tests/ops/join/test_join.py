"""The two halves over a real socket: the keys arrive, nobody else can read them, every refusal has its code."""

from __future__ import annotations

import asyncio
import base64
import secrets
import ssl
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretStr

from ops.join import certificate, client, sealing, server, source, target
from ops.join.desk import Verdict
from ops.join.errors import JoinError
from ops.join.grant import Answer, Ask, Grant
from ops.join.token import Token
from tasks import fleet_key_file, settings_file
from tasks.errors import ConfigError
from tasks.settings import Settings, load_settings
from worker.private import keys as workload

REDIS = "rediss://pendra:hunter2@redis.example:6380/0"
GRANT = Grant(redis_url=SecretStr(REDIS), fleet_keys=(SecretStr("a2V5"),), workload_keys=(SecretStr("d2w="),))


async def serving(
    use: Callable[[Token], object], *, hosts: int = 1, life_s: float = 30
) -> tuple[list[object], tuple[str, ...], list[Verdict]]:
    """Run the service, and `use` in threads one after the other; what they gave or raised, who joined, verdicts."""
    tls, fingerprint = certificate.server_context()
    made: asyncio.Future[Token] = asyncio.get_running_loop().create_future()
    verdicts: list[Verdict] = []

    def token(port: int) -> Token:
        return Token("127.0.0.1", port, int(time.time() + life_s), fingerprint, secrets.token_bytes(32))

    service = asyncio.create_task(
        server.listen(
            token, GRANT, bind=("127.0.0.1", 0), tls=tls, hosts=hosts, ready=made.set_result,
            told=lambda _node, _address, verdict: verdicts.append(verdict),
        )
    )  # fmt: skip
    results: list[object] = []
    try:
        results.append(await asyncio.to_thread(use, await made))
    except JoinError as exc:
        results.append(exc)
    joined: tuple[str, ...] = ()
    if results and not isinstance(results[0], JoinError):
        joined = await service
    service.cancel()
    await asyncio.gather(service, return_exceptions=True)
    return results, joined, verdicts


@pytest.fixture(autouse=True)
def no_linger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_LINGER_S", 0.0)


async def test_a_host_with_the_token_gets_everything() -> None:
    (got,), joined, verdicts = await serving(lambda token: client.fetch(token, "wrk-b", "0.1.0"))
    assert got == GRANT
    assert joined == ("wrk-b",)
    assert verdicts == [Verdict.GRANTED]


async def test_another_secret_is_refused() -> None:
    (got,), _, verdicts = await serving(lambda token: client.fetch(replace(token, secret=b"x" * 32), "wrk-b", ""))
    assert isinstance(got, JoinError)
    assert got.code == "join_refused"
    assert verdicts == [Verdict.REFUSED]


async def test_another_certificate_is_told_nothing() -> None:
    (got,), _, verdicts = await serving(lambda token: client.fetch(replace(token, fingerprint=b"f" * 32), "w", ""))
    assert isinstance(got, JoinError)
    assert got.code == "join_not_pinned"
    assert verdicts == []


async def test_a_second_host_finds_the_token_used() -> None:
    def twice(token: Token) -> object:
        return client.fetch(token, "wrk-b", ""), _failure(lambda: client.fetch(token, "wrk-c", ""))

    server_linger = server._LINGER_S
    try:
        server._LINGER_S = 1.0
        (got,), joined, verdicts = await serving(twice)
    finally:
        server._LINGER_S = server_linger
    assert isinstance(got, tuple)
    assert got[1] == "join_token_used"
    assert joined == ("wrk-b",)
    assert verdicts == [Verdict.GRANTED, Verdict.USED]


async def test_who_guesses_is_not_listened_to() -> None:
    def guess(token: Token) -> object:
        wrong = replace(token, secret=b"x" * 32)
        return [_failure(lambda: client.fetch(wrong, "w", "")) for _ in range(6)], client.fetch

    tls, fingerprint = certificate.server_context()
    made: asyncio.Future[Token] = asyncio.get_running_loop().create_future()
    service = asyncio.create_task(
        server.listen(
            lambda port: Token("127.0.0.1", port, int(time.time() + 30), fingerprint, b"s" * 32), GRANT,
            bind=("127.0.0.1", 0), tls=tls, hosts=1, ready=made.set_result, told=lambda *_: None,
        )
    )  # fmt: skip
    codes, _ = await asyncio.to_thread(guess, await made)  # type: ignore[misc]
    service.cancel()
    await asyncio.gather(service, return_exceptions=True)
    assert codes == ["join_refused"] * 5 + ["join_rate_limited"]


async def test_the_service_ends_when_the_token_is_void() -> None:
    tls, fingerprint = certificate.server_context()
    joined = await server.listen(
        lambda port: Token("127.0.0.1", port, int(time.time()), fingerprint, b"s" * 32), GRANT,
        bind=("127.0.0.1", 0), tls=tls, hosts=1, ready=lambda _: None, told=lambda *_: None,
    )  # fmt: skip
    assert joined == ()


def test_an_expired_token_is_not_even_tried() -> None:
    gone = Token("192.0.2.1", 1, 100, b"f" * 32, b"s" * 32)
    assert _failure(lambda: client.fetch(gone, "w", "", now=100.0)) == "join_token_expired"


def test_nobody_there(unused_tcp_port: int) -> None:
    token = Token("127.0.0.1", unused_tcp_port, int(time.time() + 30), b"f" * 32, b"s" * 32)
    with pytest.raises(JoinError, match=r"nothing listens there.*used or has expired") as refused:
        client.fetch(token, "w", "")
    assert refused.value.code == "join_unreachable"


def test_a_grant_opens_with_its_token_for_its_host_and_question_only() -> None:
    sealed = sealing.seal(b"s" * 32, GRANT, "wrk-b", "n")
    assert sealing.opened(b"s" * 32, sealed, "wrk-b", "n") == GRANT
    for secret, node, nonce in ((b"x" * 32, "wrk-b", "n"), (b"s" * 32, "wrk-c", "n"), (b"s" * 32, "wrk-b", "m")):
        with pytest.raises(JoinError, match="does not open"):
            sealing.opened(secret, sealed, node, nonce)
    assert b"hunter2" not in sealed


def test_no_secret_in_any_repr() -> None:
    shown = repr(GRANT) + repr(Answer(sealed=base64.b64encode(b"abc").decode()))
    assert "hunter2" not in shown
    assert "a2V5" not in shown
    assert "YWJj" not in shown


def test_a_question_without_a_proof_is_no_question() -> None:
    assert server._ask_of(b'{"node": "w"}\n') is None
    assert server._ask_of(b"GET / HTTP/1.1\r\n") is None
    ask = Ask(node="w", nonce="0" * 32, proof="0" * 64)
    assert server._ask_of(ask.model_dump_json().encode() + b"\n") == ask


def test_only_tls_13() -> None:
    assert certificate.server_context()[0].minimum_version is ssl.TLSVersion.TLSv1_3


# ------------------------------------------------------------------ the two hosts


def host(home: Path, **fields: object) -> Settings:
    return load_settings(home=home, **fields)


def test_what_a_host_hands_over(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_text("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n")
    ours = host(tmp_path / "a", redis_url=f"{REDIS}?ssl_ca_certs={ca}")
    fleet_key_file.ensure(ours.fleet_key_path)
    workload.ensure(ours.workload_key_file)
    grant = source.grant_of(ours)
    assert grant.redis_url.get_secret_value() == REDIS
    assert grant.ca == ca.read_text()

    theirs = host(tmp_path / "b")
    target.check_room(theirs)
    written = target.write(theirs, grant, ("phi",))
    after = host(tmp_path / "b")
    assert after.redis_url == f"{REDIS}?ssl_ca_certs={tmp_path}/b/redis-ca.pem"
    assert [key.id for key in after.fleet_keys()] == [key.id for key in ours.fleet_keys()]
    assert workload.load(after.workload_key_file)[0].kid == workload.load(ours.workload_key_file)[0].kid
    assert after.labels == ("phi",)
    assert after.worker_id != ours.worker_id
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in written)
    assert "gpu_worker_private_key" not in settings_file.read(after.config_path)


def test_a_redis_of_this_host_only_cannot_be_handed_over(tmp_path: Path) -> None:
    ours = host(tmp_path, redis_url="redis://127.0.0.1:6379/0")
    fleet_key_file.ensure(ours.fleet_key_path)
    with pytest.raises(ConfigError, match=r"--redis-url"):
        source.grant_of(ours)
    assert source.grant_of(ours, "redis://10.0.0.1:6379/0").redis_url.get_secret_value() == "redis://10.0.0.1:6379/0"


def test_files_of_this_host_are_not_handed_over_by_name(tmp_path: Path) -> None:
    ours = host(tmp_path, redis_url=f"{REDIS}?ssl_certfile=/etc/me.pem")
    fleet_key_file.ensure(ours.fleet_key_path)
    with pytest.raises(ConfigError, match="ssl_certfile"):
        source.grant_of(ours)


@pytest.mark.parametrize("text", ["no pem", "-----BEGIN CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----"])
def test_a_ca_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    ours = host(tmp_path)
    fleet_key_file.ensure(ours.fleet_key_path)
    path = tmp_path / "ca.pem"
    path.write_text(text)
    with pytest.raises(ConfigError, match="CA in PEM form"):
        source.grant_of(ours, REDIS, path)


def test_a_host_of_a_fleet_keeps_its_keys(tmp_path: Path) -> None:
    theirs = host(tmp_path)
    fleet_key_file.ensure(theirs.fleet_key_path)
    with pytest.raises(ConfigError, match="--force") as refused:
        target.check_room(theirs)
    assert refused.value.code == "would_overwrite"


def _failure(call: Callable[[], object]) -> str:
    try:
        call()
    except JoinError as exc:
        return exc.code
    return ""
