"""Where servers are looked for, who wins, and what is said of what was not found."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from tasks.contract import BackendState
from tasks.settings_values import BACKENDS, endpoint
from tests.worker.backends.external.parts import HandProduct
from worker.backends.external import looking
from worker.backends.external.discovery import Discovery
from worker.backends.external.looking import look, places
from worker.backends.external.presence import Missed, Seen
from worker.backends.external.product import NotFoundHere, ProductName

LOCAL, HOST = "http://localhost:11434", "http://host.docker.internal:11434"


def discovery(*products: HandProduct, **endpoints: str) -> Discovery:
    given = {product.name: endpoints.get(product.name, "") for product in products}
    return Discovery(products, given, BACKENDS)


@pytest.mark.parametrize("word", ["off", "OFF", "0", "False", "none", "No"])
def test_an_off_switch_looks_nowhere(word: str) -> None:
    assert places(HandProduct(), endpoint(word)) == ()


def test_localhost_then_the_containers_host_or_what_is_configured() -> None:
    assert places(HandProduct(), endpoint("")) == (LOCAL, HOST)
    assert places(HandProduct(), endpoint("http://gpu7:1/")) == ("http://gpu7:1",)


@pytest.mark.parametrize(("there", "found"), [((LOCAL, HOST), LOCAL), ((HOST,), HOST), ((LOCAL,), LOCAL), ((), None)])
async def test_the_first_place_that_verifies_wins(there: tuple[str, ...], found: str | None) -> None:
    product = HandProduct()
    for url in there:
        product.put(url, "m")
    seen = await look(None, product, "")
    assert (seen.found.url if isinstance(seen, Seen) else None) == found
    assert set(product.asked) == {LOCAL, HOST}


async def test_both_places_are_said_with_what_is_there() -> None:
    product = HandProduct()
    product.at[LOCAL] = NotFoundHere("an HTML page")
    missed = await look(None, product, "")
    assert isinstance(missed, Missed)
    assert missed.why == f"{LOCAL}: an HTML page; {HOST}: connection refused"


async def test_another_product_at_a_configured_place_is_named() -> None:
    ollama, vllm = HandProduct(), HandProduct(ProductName.VLLM)
    vllm.put("http://gpu7:1", "m")
    missed = await look(None, ollama, "http://gpu7:1", [vllm])
    assert isinstance(missed, Missed)
    assert missed.why == "http://gpu7:1 is vLLM, not Ollama"


@pytest.mark.parametrize(
    ("error", "late", "words"),
    [
        (TimeoutError(), True, "no answer within 5 s"),
        (httpx.ReadTimeout("x"), True, "ime"),
        (httpx.ConnectTimeout("x"), False, "ime"),
        (httpx.ConnectError("x"), False, "refused"),
        (KeyError("secret"), False, "is not Ollama (KeyError)"),
    ],
)
async def test_whatever_a_probe_raises_is_said_in_words(error: Exception, words: str, *, late: bool) -> None:
    product = HandProduct()
    product.at[LOCAL] = error
    missed = await look(None, product, LOCAL)
    assert isinstance(missed, Missed)
    assert words in missed.why
    assert "secret" not in missed.why
    assert missed.late == ({LOCAL} if late else set())


async def test_a_probe_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    class Hanging(HandProduct):
        async def probe(self, http, url):
            await asyncio.Event().wait()

    monkeypatch.setattr(looking, "PROBE_S", 0.01)
    missed = await look(None, Hanging(), LOCAL)
    assert isinstance(missed, Missed)
    assert missed.late == {LOCAL}


@pytest.mark.parametrize("error", [NotFoundHere("no list"), httpx.ReadError("x"), TimeoutError(), ValueError("x")])
async def test_a_server_that_does_not_list_its_models_is_not_offered(error: Exception) -> None:
    product = HandProduct().put(LOCAL, "m")
    product.unlisted = error
    missed = await look(None, product, "")
    assert isinstance(missed, Missed)
    assert f"{LOCAL} is Ollama, but does not list its models" in missed.why


async def test_vllm_and_speaches_share_a_port_and_are_told_apart() -> None:
    vllm, speaches = HandProduct(ProductName.VLLM), HandProduct(ProductName.SPEACHES)
    speaches.put("http://localhost:8000", "whisper")
    vllm.put("http://host.docker.internal:8000", "llama")
    found = discovery(vllm, speaches)
    await found.tick(None)
    rows = {row.product: (row.state, row.url) for row in found.reports()}
    assert rows == {
        "vllm": (BackendState.FOUND, "http://host.docker.internal:8000"),
        "speaches": (BackendState.FOUND, "http://localhost:8000"),
    }


async def test_models_come_and_go_with_their_server() -> None:
    product = HandProduct()
    found = discovery(product)
    for there, models in [(("a",), {"a"}), (("a", "b"), {"a", "b"}), ((), set())]:
        product.at = {LOCAL: ()} if not there else {}
        product.put(LOCAL, *there)
        await found.tick(None)
        assert set(found.directory().models) == models
    product.at.clear()
    await found.tick(None)
    assert found.directory().infos == ()
    (row,) = found.reports()
    assert (row.state, row.models) == (BackendState.MISSING, ())


async def test_all_are_asked_at_once() -> None:
    asked, all_asked = [], asyncio.Event()

    class Meeting(HandProduct):
        async def probe(self, http, url):
            asked.append(url)
            if len(asked) == 4:
                all_asked.set()
            await all_asked.wait()
            raise NotFoundHere("nothing")

    await discovery(Meeting(), Meeting(ProductName.LMSTUDIO)).tick(None)
    assert len(asked) == 4


async def test_who_is_found_does_not_wait_for_who_hangs() -> None:
    hanging = asyncio.Event()

    class Hanging(HandProduct):
        async def probe(self, http, url):
            if url == HOST or self.name is ProductName.VLLM:
                await hanging.wait()
            return await super().probe(http, url)

    ollama, vllm = Hanging().put(LOCAL, "m"), Hanging(ProductName.VLLM)
    told = asyncio.Event()
    found = Discovery((vllm, ollama), {ollama.name: "", vllm.name: ""}, BACKENDS, told.set)
    tick = asyncio.create_task(found.tick(None))
    await asyncio.wait_for(told.wait(), 5)
    assert [info.id for info in found.directory().infos] == ["m"]
    hanging.set()
    await tick


async def test_what_is_off_is_not_asked_and_said() -> None:
    product = HandProduct().put(LOCAL, "m")
    found = discovery(product, ollama="off")
    await found.tick(None)
    assert product.asked == []
    assert found.reports()[0].state is BackendState.OFF


async def test_a_flapping_server_is_held_and_says_so() -> None:
    product = HandProduct()
    found = discovery(product)
    for there in [True, False, True, False, True]:
        product.at = {LOCAL: ()} if there else {}
        await found.tick(None)
    (row,) = found.reports()
    assert row.state is BackendState.HELD
    assert "came and went 2 times; offered again after 1 more" in row.why


async def test_a_model_on_two_backends_is_listed_once_as_the_preferred_has_it() -> None:
    ollama, vllm = HandProduct(), HandProduct(ProductName.VLLM)
    ollama.put(LOCAL, "both", "only")
    vllm.put("http://localhost:8000", "both")
    for order, first in [(BACKENDS, "ollama"), (("vllm", "ollama"), "vllm")]:
        found = Discovery((vllm, ollama), {ollama.name: "", vllm.name: ""}, order)
        await found.tick(None)
        listed = found.directory()
        assert {info.id: info.backend for info in listed.infos} == {"both": first, "only": "ollama"}
        assert listed.models["both"][0].product.name == first
        assert len(listed.models["both"]) == 2
        assert set(found.directory(only=["only"]).models) == {"only"}


async def test_a_password_in_an_endpoint_is_used_and_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    place = "http://me:xyzzy@gpu7:1"
    product = HandProduct()
    found = discovery(product, ollama=place)
    await found.tick(None)
    missing = found.reports()
    product.put(place, "m")
    with caplog.at_level("INFO"):
        await found.tick(None)
    assert product.asked == [place, place]
    assert found.reports()[0].url == missing[0].url == "http://gpu7:1"
    assert "xyzzy" not in f"{missing} {found.reports()} {caplog.text}"
