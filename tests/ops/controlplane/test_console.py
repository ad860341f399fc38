"""The console's files: where they are, how they are sent, and what they must not contain."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest

from ops.controlplane.console import FILES
from tests.ops.controlplane.running import Running

NAMES = sorted(path.name for path in FILES.iterdir())
KINDS = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
MOST_BYTES = 100_000


@pytest.mark.parametrize("path", ["/", "/console"])
def test_people_are_sent_to_the_console(plane: Running, path: str) -> None:
    reply = httpx.get(plane.url + path)
    assert (reply.status_code, reply.headers["location"]) == (307, "/console/")
    assert "<title>Pendra console</title>" in httpx.get(plane.url + path, follow_redirects=True).text


def test_every_file_comes_with_its_type_and_may_run_nothing_else(plane: Running) -> None:
    for name in NAMES:
        reply = httpx.get(f"{plane.url}/console/{name}")
        assert reply.status_code == 200
        assert reply.headers["content-type"].startswith(KINDS[Path(name).suffix])
        assert reply.headers["cache-control"] == "no-cache"
        policy = reply.headers["content-security-policy"]
        assert "script-src 'self'" in policy
        assert "require-trusted-types-for 'script'" in policy
        assert "unsafe" not in policy
        again = httpx.get(f"{plane.url}/console/{name}", headers={"if-none-match": reply.headers["etag"]})
        assert again.status_code == 304


def test_what_is_not_there_is_a_404(plane: Running) -> None:
    for path in ("nothing.js", "../console.py", "%2e%2e/console.py"):
        reply = httpx.get(f"{plane.url}/console/{path}")
        assert (reply.status_code, reply.json()["code"]) == (404, "not_found")


def test_nothing_inline_nothing_from_elsewhere_and_all_of_it_small() -> None:
    page = (FILES / "index.html").read_text("utf-8")
    assert re.findall(r"<script(?![^>]*\bsrc=)|\sstyle=|\son\w+=|<style", page) == []
    texts = {name: (FILES / name).read_text("utf-8") for name in NAMES}
    assert sum(len(text.encode()) for text in texts.values()) < MOST_BYTES
    for name, text in texts.items():
        assert [url for url in re.findall(r"https?://[^\s\"')]+", text) if "w3.org" not in url] == [], name
        assert re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", text) == [], name


def test_every_id_that_a_script_asks_for_is_on_the_page() -> None:
    page = set(re.findall(r'\bid="([^"]+)"', (FILES / "index.html").read_text("utf-8")))
    scripts = "".join(path.read_text("utf-8") for path in FILES.glob("*.js"))
    asked = set(re.findall(r'\$\("([^"]+)"\)', scripts))
    assert asked
    assert asked - page == set()
