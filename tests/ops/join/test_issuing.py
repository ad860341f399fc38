"""Making a token: what it says, and how waiting for its hosts ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.join import server
from ops.join.errors import JoinError
from ops.join.issuing import Terms, issue
from ops.join.token import Token
from tasks.sealing import FleetKey
from tasks.settings import Settings, load_settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    redis_url = "redis://:pw@redis.example:6379/0"
    return load_settings(home=tmp_path, redis_url=redis_url, fleet_key=FleetKey.generate().to_base64())


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Token]:
    """The service without a socket: it makes its token for port 7, and one host joins."""
    tokens: list[Token] = []

    async def listen(token, grant, *, bind, ready, **more: object) -> tuple[str, ...]:
        tokens.append(token(7))
        ready(tokens[-1])
        return ("wrk-b",)

    monkeypatch.setattr(server, "listen", listen)
    return tokens


def test_a_token_says_where_and_until_when(settings: Settings, made: list[Token]):
    shown: list[Token] = []
    issue(settings, Terms(1, 15, ("127.0.0.1", 0), address="10.0.0.5"), ready=shown.append, told=print)
    assert shown == made
    assert (made[0].host, made[0].port, len(made[0].secret)) == ("10.0.0.5", 7, 32)


@pytest.mark.usefixtures("made")
def test_it_says_who_did_not_come(settings: Settings):
    with pytest.raises(JoinError, match="1 of 2 hosts joined") as caught:
        issue(settings, Terms(2, 15, ("127.0.0.1", 0), address="10.0.0.5"), ready=lambda _: None, told=print)
    assert caught.value.code == "join_token_expired"
