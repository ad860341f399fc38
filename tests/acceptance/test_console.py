"""The console in a real browser, on a fresh machine: from signing in to removing the model that was installed.

The tests are one visit, in order.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from selenium.common.exceptions import JavascriptException
from selenium.webdriver.common.keys import Keys

from tests.acceptance.browser import Page, browsing
from tests.acceptance.stack import MODEL, START_TIMEOUT_S, Stack, eventually
from tests.acceptance.stranger import NODE, WORKER, stranger
from tests.fakes.redis_server import RedisServer

ROLES = ("button", "link", "textbox", "searchbox", "combobox", "spinbutton", "checkbox", "meter", "image", "table")
SECTIONS = ("fleet", "catalogue", "tester", "access")


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """An empty home, an empty store."""
    home = tmp_path_factory.mktemp("console")
    stack = Stack(home, home / "models", args=("--workers", "1", "--slots", "2"), model=None)
    stack.start()
    try:
        yield stack
    finally:
        stack.stop()


@pytest.fixture(scope="module")
def page(fresh: Stack) -> Iterator[Page]:
    with browsing(fresh.url) as page:
        assert eventually(lambda: answers(fresh), START_TIMEOUT_S), fresh.log.read_text()
        page.open()
        yield page


def answers(stack: Stack) -> bool:
    assert stack.process is not None
    assert stack.process.poll() is None, stack.log.read_text()
    try:
        return bool(httpx.get(f"{stack.url}/healthz", timeout=2).json()["workers"])
    except httpx.HTTPError:
        return False


def test_a_wrong_key_is_refused_in_words(page: Page) -> None:
    page.sign_in("pdr_sk_wrong")
    assert "not valid" in page.until(lambda: page.find("#sign-in-error").text)
    assert not page.find("#fleet").is_displayed()
    assert page.js("return sessionStorage.length") == 0
    assert page.driver.switch_to.active_element.get_attribute("id") == "key"


def test_the_right_key_shows_the_workers(page: Page, fresh: Stack) -> None:
    page.sign_in(fresh.key)
    row = page.until(lambda: page.find("#workers tr[data-worker]").text)
    assert "-cpu0" in row
    assert "0 of 2" in row
    assert "serving" in row
    page.until(lambda: page.text("#link") == "live")
    page.until(lambda: page.text("#chart-slots .value") == "0 of 2")
    assert page.text("#bridges tr td:last-child") == "connected"
    assert fresh.key not in page.driver.current_url
    assert page.js("return document.cookie + localStorage.getItem('pendra.key')") == "null"


def test_a_model_is_installed_on_a_host_and_backend_with_progress(page: Page, fresh: Stack) -> None:
    page.section("catalogue")
    assert "No model is served" in page.text("#served")
    page.type("#offer-find", "smollm2 135")
    page.until(lambda: len(page.all("#offer li")) == 1)
    page.click(f"[id='install-{MODEL}']")
    hosts = [option.get_attribute("value") for option in page.all("#i-host option")]
    assert hosts == [fresh.status()["node"]]
    assert [option.get_attribute("value") for option in page.all("#i-backend option")] == ["pendra", "ollama"]
    page.choose("#i-backend", "pendra")
    page.keep("#progress progress", "#progress li .chip")
    page.click("#i-go")
    page.until(lambda: page.all("#progress li:not([data-state='running'])"), 120)
    assert page.text("#progress li .chip") == "done", page.text("#progress")
    assert page.kept("#progress progress")
    seen = page.kept("#progress li .chip")
    assert {"downloading", "extracting", "verifying"} & set(seen), seen
    assert page.until(lambda: page.find(f"#served tr[data-model='{MODEL}']").text).startswith(MODEL)
    assert "done" in page.text("#notice")


def test_a_chat_streams(page: Page) -> None:
    page.section("tester")
    page.until(lambda: page.find("#t-model").get_attribute("value") == MODEL)
    page.type("#t-tokens", "20")
    page.keep(".said.assistant .words")
    page.type("#t-prompt", "Name three colours and describe each." + Keys.ENTER)
    assert "tokens/s" in page.until(lambda: page.text("#talk-facts"), 60)
    assert len(page.kept(".said.assistant .words")) > 3
    assert page.all(".said.assistant .error") == []


def test_a_chat_is_stopped_and_its_slot_is_free(page: Page, fresh: Stack) -> None:
    page.click("#t-clear")
    page.type("#t-tokens", "4000")
    page.type("#t-prompt", "Count from one to a thousand, in words.")
    page.click("#t-send")
    page.until(lambda: page.text(".said.assistant .words"))
    page.click("#t-stop")
    assert "stopped" in page.until(lambda: page.text(".said.assistant .soft:last-child"))
    assert eventually(lambda: fresh.slots_busy() == 0)


def test_the_fleet_shows_what_happened(page: Page) -> None:
    page.section("fleet")
    page.until(lambda: page.text("#workers .chip.full") == MODEL)

    def heights() -> set[float]:
        points = page.js("return document.querySelector('#chart-tokens .line').getAttribute('d')")
        return {float(point.split(",")[1]) for point in points[1:].split("L")}

    page.until(lambda: len(heights()) > 1)


def test_a_key_is_shown_once_works_and_is_revoked(page: Page, fresh: Stack) -> None:
    page.section("access")
    page.type("#k-name", "robot")
    page.type("#k-models", "smollm2:*")
    page.click("#key-form button")
    plain = page.until(lambda: page.find("#key-plain").text)
    assert plain.startswith("pdr_sk_")
    page.click("#key-dialog button.main")
    page.until(lambda: plain not in page.driver.page_source)
    assert fresh.key not in page.driver.page_source
    assert status_of(fresh, plain) == 200
    row = page.until(lambda: next(row for row in page.all("#keys tr") if "robot" in row.text))
    assert "smollm2:*" in row.text
    name = f"#keys tr[data-key='{row.get_attribute('data-key')}']"
    page.click(f"{name} button")
    page.click("#confirm-yes")
    assert page.until(lambda: page.find(f"{name}.faded").text)
    assert status_of(fresh, plain) == 401
    page.type("#k-name", "  ")
    page.click("#key-form button")
    assert "name" in page.until(lambda: page.text("#key-error"))
    assert page.find("#identities tr[data-identity]").text


def status_of(stack: Stack, key: str) -> int:
    return httpx.get(f"{stack.url}/v1/models", headers={"x-api-key": key}).status_code


def test_a_bridge_that_asks_is_let_in_serves_and_is_cut_off(
    page: Page, fresh: Stack, redis_server: RedisServer, models_dir: Path, tmp_path: Path
) -> None:
    """By hand, on the page: the row comes by itself, `Approve`, `Revoke`."""
    with stranger(fresh.url, redis_server.url, tmp_path, models_dir) as bridge:
        name = f"#identities tr[data-identity='{page.until(lambda: identity_of(page, NODE), 60)}']"
        assert page.text(f"{name} .chip") == "pending"
        page.until(lambda: page.text("#pending") == "1 to approve")
        assert asked_of(fresh, WORKER).status_code != 200
        page.click(f"{name} button[aria-label^='Approve']")
        page.until(lambda: page.text(f"{name} .chip") == "registered")
        page.until(lambda: not page.find("#pending").is_displayed())
        page.until(lambda: "connected" in page.text(name), 60)
        page.section("fleet")
        page.until(lambda: page.text(f"#workers tr[data-worker='{WORKER}'] .chip.full") == MODEL, 60)
        assert asked_of(fresh, WORKER).status_code == 200
        page.section("access")
        page.click(f"{name} button[aria-label^='Revoke']")
        page.click("#confirm-yes")
        page.until(lambda: page.text(f"{name}.faded .chip") == "revoked")
        assert bridge.wait(30) != 0, "it cannot come back: revoking is for good"
        page.section("fleet")
        page.until(lambda: not page.all(f"#workers tr[data-worker='{WORKER}']"))
        assert asked_of(fresh, WORKER).status_code != 200
        assert asked_of(fresh).status_code == 200, "the others serve on"
    page.section("access")


def identity_of(page: Page, node: str) -> str:
    """Its id in the table; "" as long as it is not there."""
    rows: dict[str, str] = page.js(
        "return Object.fromEntries([...document.querySelectorAll('#identities tr[data-identity]')]"
        ".map((row) => [row.dataset.identity, row.textContent]))"
    )
    return next((identity for identity, words in rows.items() if node in words), "")


def asked_of(stack: Stack, worker: str | None = None) -> httpx.Response:
    return httpx.post(
        f"{stack.url}/v1/chat/completions",
        headers={"x-api-key": stack.key} | ({"x-pendra-worker-id": worker} if worker else {}),
        json={"model": MODEL, "messages": [{"role": "user", "content": "Say hi."}], "max_tokens": 4},
        timeout=60,
    )


def test_what_is_wrong_is_said_in_the_conversation(page: Page) -> None:
    page.section("tester")
    page.click("#t-clear")
    page.js("document.getElementById('t-system').value = 'word '.repeat(20000)")
    page.type("#t-prompt", "Hello" + Keys.ENTER)
    assert "shorten the messages" in page.until(lambda: page.text(".said.assistant .error"))
    page.js("document.getElementById('t-system').value = ''")
    page.section("access")


def test_a_restart_of_the_api_is_survived(page: Page, fresh: Stack) -> None:
    (plane,) = fresh.processes("controlplane")
    page.keep("#link")
    os.kill(plane["pid"], signal.SIGKILL)
    page.until(lambda: "reconnecting" in page.kept("#link") and page.text("#link") == "live")
    page.section("fleet")
    page.until(lambda: page.text("#workers .chip.full") == MODEL)
    page.section("access")


def test_dark_and_light_are_chosen_and_kept(page: Page) -> None:
    seen = {}
    for _ in range(2):
        page.click("#theme")
        seen[page.js("return document.documentElement.dataset.theme")] = colours(page)
    assert set(seen) == {"dark", "light"}
    assert seen["dark"] != seen["light"]
    page.driver.refresh()  # still signed in, still light
    page.until(lambda: page.find("#access").is_displayed())
    assert colours(page) == seen["light"]
    page.click("#theme")
    assert "system" in (page.find("#theme").get_attribute("aria-label") or "")


def colours(page: Page) -> str:
    return str(page.js("const s = getComputedStyle(document.body); return s.color + s.backgroundColor"))


def test_everything_has_a_name_and_nothing_is_cut_off_on_a_phone(page: Page) -> None:
    phone = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    try:
        for name in SECTIONS:
            page.section(name)
            assert page.js("return document.documentElement.scrollWidth") <= 360, name
            names = page.names(*ROLES)
            assert names
            assert all(names), (name, names)
    finally:
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_keyboard_is_enough(page: Page, fresh: Stack) -> None:
    page.tab_to("#sign-out")
    page.press(Keys.ENTER)
    page.until(lambda: page.find("#key").is_displayed())
    assert page.js("return sessionStorage.length") == 0
    assert page.all("#workers tr") == []
    page.press(fresh.key, Keys.ENTER)
    page.until(lambda: page.find("#access").is_displayed())
    page.press(Keys.HOME)
    page.js("document.activeElement.blur()")
    page.tab_to("nav a[href='#catalogue']")
    page.press(Keys.ENTER)
    page.until(lambda: page.all("#offer li[data-offer]"))
    page.tab_to(f"[id='remove-served-{MODEL}']")
    page.press(Keys.ENTER)
    page.until(lambda: page.find("#install-dialog").is_displayed())
    page.press(Keys.ESCAPE)
    assert not page.find("#install-dialog").is_displayed()
    assert page.driver.switch_to.active_element.get_attribute("id") == f"remove-served-{MODEL}"


def test_the_model_is_removed(page: Page, fresh: Stack) -> None:
    page.press(Keys.ENTER)
    page.click("#i-go")
    assert page.until(lambda: "Remove" in page.text("#progress li") and page.text("#progress li .chip") == "done", 30)
    assert "No model is served" in page.until(lambda: page.text("#served .empty"))
    assert not list(fresh.models_dir.glob("*.gguf*"))


def test_no_text_becomes_html_and_nothing_broke_a_rule(page: Page) -> None:
    refused = "Failed to load resource"  # a 401 for the wrong key, a 400 for the name without letters
    assert [words for words in page.problems() if refused not in words] == []
    with pytest.raises(JavascriptException, match="TrustedHTML"):
        page.js("document.body.innerHTML = '<b>no</b>'")
