"""The audit log of a whole running stack: `pendra audit verify` says it is whole, and finds what is done to it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import httpx
import pytest

from tests.acceptance.stack import MODEL, Stack, eventually

SECRET = "zwetschgenknoedel-4711"


@pytest.fixture
def folder(stack: Stack, api: httpx.Client) -> Path:
    """The stack's audit folder, with a request that said SECRET in it."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": SECRET}], "max_tokens": 4, "temperature": 0}
    reply = api.post("/v1/chat/completions", json=body)
    request_id = reply.headers["x-request-id"]
    (found,) = eventually(lambda: [one for one in (stack.home / "audit").iterdir() if one.is_dir()])
    assert eventually(lambda: request_id in "".join(path.read_text() for path in found.glob("*.jsonl")))
    return found


def verify(stack: Stack, folder: Path) -> tuple[int, dict[str, object]]:
    done = stack.cli("audit", "verify", "--json", "--dir", str(folder.parent), "--log", folder.name)
    return done.returncode, json.loads(done.stdout)


def test_a_line_for_a_request_and_no_content(stack: Stack, folder: Path) -> None:
    text = "".join(path.read_text() for path in folder.glob("*.jsonl"))
    row = json.loads(text.splitlines()[-1])
    assert (row["model"], row["outcome"], row["sealed"]) == (MODEL, "finished", False)
    assert row["tenant"].startswith("key-")
    assert row["worker"]
    assert row["completion_tokens"] == 4
    assert SECRET not in text


def test_whole_until_somebody_touches_it(stack: Stack, folder: Path, tmp_path: Path) -> None:
    def checked() -> bool:  # the control plane keeps checkpoints of its own
        return bool(stack.cli("audit", "checkpoints").stdout)

    assert eventually(checked, 90, 1.0)
    code, report = verify(stack, folder)
    assert (code, report["whole"], report["findings"]) == (0, True, [])
    copy = shutil.copytree(folder, tmp_path / folder.name)
    (copy / "checkpoints.txt").unlink(missing_ok=True)
    for path in copy.glob("*.jsonl"):
        path.write_text("")
    code, report = verify(stack, copy)
    assert (code, report["whole"]) == (1, False)
    assert [one["fault"] for one in report["findings"]] == ["truncated"]
