"""API keys of external servers: who gets which, and where they never show."""

from __future__ import annotations

import logging
from pathlib import Path

import httpx
import pytest
from starlette.responses import JSONResponse

from ops.backends import looked
from tasks.errors import PendraError
from tasks.sealing import FleetKey
from tasks.settings import Settings, load_settings
from tests.fakes.backend_parts import DirectPublisher, RecordingReply, chat
from tests.fakes.serving import serving
from tests.fakes.vllm_server import VllmServer
from tests.fakes.waiting import until
from worker.backends.base import CancelToken
from worker.backends.external.logins import key_for, logins_of, with_key
from worker.proxy_runtime import ProxyRuntime, make_client

KEY, MODEL = "sk-very-secret", "Qwen/Qwen2.5-7B-Instruct"
PLACES = {
    "ollama_endpoint": "http://box:11434",
    "vllm_endpoint": "https://gw.example/vllm",
    "lmstudio_endpoint": "https://gw.example",
}
KEYS = {"ollama_api_key": "of-ollama", "vllm_api_key": "of-vllm", "lmstudio_api_key": "of-lmstudio"}


class Keyed:
    """An ASGI app that wants a key for `/v1`, as vLLM's `--api-key` does, and quotes a wrong one."""

    def __init__(self, app, key: str) -> None:
        self._app, self._key = app, key

    async def __call__(self, scope, receive, send) -> None:
        said = dict(scope.get("headers") or ()).get(b"authorization", b"").decode()
        guarded = scope["type"] == "http" and scope["path"].startswith("/v1")
        refusal = JSONResponse({"error": f"Unauthorized: {said}"}, status_code=401)
        await (refusal if guarded and said != f"Bearer {self._key}" else self._app)(scope, receive, send)


def settings(home: Path, **more: object) -> Settings:
    off = {f"{name}_endpoint": "off" for name in ("ollama", "lmstudio", "speaches")}
    given = {"worker_id": "wrk-1", "fleet_key": FleetKey.generate().to_base64(), "refresh_seconds": 60.0}
    return load_settings(home=home, **(given | off | more))


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("http://box:11434/api/chat", "of-ollama"),
        ("https://gw.example:443/vllm/v1/models", "of-vllm"),
        ("https://gw.example/vllm", "of-vllm"),
        ("https://gw.example/vllm2/v1/models", "of-lmstudio"),
        ("http://box:11435/api/chat", None),
        ("https://box:11434/api/chat", None),
        ("http://box.evil:11434/api/chat", None),
        ("http://localhost:8000/v1/models", None),
    ],
)
async def test_a_key_goes_to_its_own_endpoint_only(tmp_path: Path, url: str, key: str | None):
    logins = logins_of(settings(tmp_path, **PLACES, **KEYS))
    found = key_for(httpx.URL(url), logins)
    assert (found.get_secret_value() if found else None) == key
    request = httpx.Request("GET", url)
    await with_key(logins)(request)
    assert request.headers.get("authorization") == (f"Bearer {key}" if key else None)
    assert "of-" not in repr(logins)


def test_a_key_without_an_endpoint_goes_nowhere_and_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    assert logins_of(settings(tmp_path, vllm_endpoint="", vllm_api_key=KEY, ollama_api_key=KEY)) == ()
    (record,) = [one for one in caplog.records if "backend.key_unused" in one.getMessage()]
    assert "VLLM_ENDPOINT" in record.getMessage()
    assert KEY not in caplog.text


async def test_a_user_and_password_in_the_url_stay_where_there_is_no_key(tmp_path: Path):
    async with make_client(settings(tmp_path, vllm_endpoint="http://me:pw@box:1")) as http:
        request = http.build_request("GET", "http://me:pw@box:1/v1/models")
        for hook in http.event_hooks["request"]:
            await hook(request)
        assert "authorization" not in request.headers, "httpx itself adds what the URL holds"


def test_a_server_with_a_key_is_found_and_serves(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    with serving(Keyed(VllmServer().app(), KEY)) as url:
        runtime = ProxyRuntime(
            settings(tmp_path, vllm_endpoint=url, vllm_api_key=KEY), 4, DirectPublisher(), lambda: None
        )
        try:
            until(runtime.models)
            asked = chat(model=MODEL)
            reply = RecordingReply(asked)
            runtime.serve(asked, reply, CancelToken())
            assert reply.finished
            assert KEY not in str(runtime.reports())
        finally:
            runtime.close()
    assert KEY not in caplog.text


@pytest.mark.parametrize("wrong", [None, "sk-another-secret"])
def test_without_the_right_key_the_report_says_so_and_quotes_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, wrong: str | None
):
    with serving(Keyed(VllmServer().app(), KEY)) as url:
        told = looked(settings(tmp_path, vllm_endpoint=url, **({"vllm_api_key": wrong} if wrong else {})))
    (row,) = [row for row in told.backends if row.product == "vllm"]
    assert row.state == "missing"
    assert "401" in row.why
    assert "sk-" not in row.why + caplog.text


@pytest.mark.parametrize("bad", ["two words", "schlüssel", "line\nbreak"])
def test_a_key_that_cannot_stand_in_a_header_is_refused_unquoted(tmp_path: Path, bad: str):
    with pytest.raises(PendraError, match="VLLM_API_KEY") as caught:
        settings(tmp_path, vllm_endpoint="off", vllm_api_key=bad)
    assert bad not in str(caught.value)
