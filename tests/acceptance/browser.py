"""A real headless Chromium that looks at the console."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
from selenium import webdriver
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select

from tests.acceptance.stack import eventually
from tests.fakes.waiting import PATIENCE_S

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --window-size=1280,900"
)
HINT = "the console is tested in a real browser: install it with `apt-get install chromium chromium-driver`"
T = TypeVar("T")
_KEEP = """
const [css] = arguments, seen = ((window.seenByTests ??= {})[css] = []);
const look = () => {
  const here = document.querySelector(css);
  if (here?.checkVisibility() && here.textContent !== seen.at(-1)) seen.push(here.textContent);
};
new MutationObserver(look).observe(document.body, { subtree: true, childList: true, characterData: true });
look();
"""


def tools() -> tuple[str, str]:
    """Chromium and its driver. Without them a test fails where CI is set, and is skipped elsewhere."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if browser and driver:
        return browser, driver
    if os.environ.get("CI"):
        pytest.fail(HINT)
    pytest.skip(HINT)


@dataclass
class Page:
    """The console in a browser."""

    driver: webdriver.Chrome
    url: str

    def open(self) -> None:
        self.driver.get(f"{self.url}/")

    def find(self, css: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, css)

    def all(self, css: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, css)

    def js(self, script: str, *args: Any) -> Any:
        return self.driver.execute_script(script, *args)

    def text(self, css: str) -> str:
        """What is there now, in one look: the page may draw it anew at any moment. "" for nothing."""
        return str(self.js("return document.querySelector(arguments[0])?.textContent ?? ''", css))

    def keep(self, *places: str) -> None:
        """From now on, until the page is loaded anew, `kept` knows every text that is there, however briefly."""
        for css in places:
            self.js(_KEEP, css)

    def kept(self, css: str) -> list[str]:
        """The texts, in their order. [] for a place that was never visible."""
        return list(self.js("return window.seenByTests[arguments[0]]", css))

    def until(self, look: Callable[[], T], seconds: float = PATIENCE_S) -> T:
        """The first truthy thing; an element that is not there yet counts as not yet."""

        def patient() -> T | None:
            try:
                return look()
            except (NoSuchElementException, StaleElementReferenceException):
                return None

        found = eventually(patient, seconds)
        assert found, f"never came; the page says:\n{self.find('body').text}"
        return found

    def click(self, css: str) -> None:
        self.until(lambda: self.find(css).is_displayed())
        self.find(css).click()

    def type(self, css: str, words: str) -> None:
        self.find(css).clear()
        self.find(css).send_keys(words)

    def choose(self, css: str, value: str) -> None:
        Select(self.find(css)).select_by_value(value)

    def section(self, name: str) -> None:
        self.click(f"nav a[href='#{name}']")
        self.until(lambda: self.find(f"#{name}").is_displayed())

    def sign_in(self, key: str) -> None:
        self.until(lambda: self.find("#key").is_displayed())
        self.type("#key", key + Keys.ENTER)

    def press(self, *keys: str) -> None:
        ActionChains(self.driver, duration=0).send_keys(*keys).perform()

    def tab_to(self, css: str, most: int = 80) -> None:
        """With the Tab key alone, as somebody without a mouse. Each stop on the way shows that it has the focus."""
        for _ in range(most):
            self.press(Keys.TAB)
            here = self.driver.switch_to.active_element
            if self.js("return arguments[0].matches(arguments[1])", here, css):
                assert self.js("return getComputedStyle(arguments[0]).outlineStyle", here) != "none"
                return
        raise AssertionError(f"Tab never reaches {css}")

    def names(self, *roles: str) -> list[str]:
        """What a screen reader is told that everything of these roles is called."""
        nodes = self.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
        told = (node for node in nodes if not node["ignored"] and node["role"]["value"] in roles)
        return [str(node.get("name", {}).get("value", "")) for node in told]

    def problems(self) -> list[str]:
        """What the browser's own log complains of."""
        log: list[dict[str, str]] = self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        return [entry["message"] for entry in log]


@contextmanager
def browsing(url: str) -> Iterator[Page]:
    browser, driver_path = tools()
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = browser
        for flag in (*FLAGS.split(), f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        driver = webdriver.Chrome(options=options, service=Service(driver_path))
        try:
            yield Page(driver, url)
        finally:
            driver.quit()
