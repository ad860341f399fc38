"""A real OpenAI-compatible server with the real model, which looks like vLLM, through the whole stack."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from tests.acceptance.site import Site
from tests.acceptance.stack import eventually
from tests.fakes.llama_server import ALIAS, llama_server

ASK = [{"role": "user", "content": "Count from one to five."}]


def test_a_real_server_streams_through_the_official_sdk(site: Site, smollm2: Path) -> None:
    fake = site.servers["vllm"]
    port = urlsplit(fake.url).port or 0
    fake.stop()
    try:
        with llama_server(smollm2, port):
            assert eventually(lambda: ALIAS in site.ids("chat"), 30), site.backends()
            row = next(row for row in site.models() if row["id"] == ALIAS)
            said, finishes, usages = "", [], []
            stream = site.openai.chat.completions.create(
                model=ALIAS, messages=ASK, max_tokens=16, temperature=0, stream=True,
                stream_options={"include_usage": True},
            )  # fmt: skip
            for chunk in stream:
                said += "".join(choice.delta.content or "" for choice in chunk.choices)
                finishes += [choice.finish_reason for choice in chunk.choices if choice.finish_reason]
                usages += [chunk.usage] if chunk.usage else []
            whole = site.openai.chat.completions.create(model=ALIAS, messages=ASK, max_tokens=16, temperature=0)
    finally:
        fake.start()
    assert row["backend"] == "vllm"
    assert said == whole.choices[0].message.content
    assert len(said) > 10
    assert finishes == ["length"]
    assert [usage.completion_tokens for usage in usages] == [16]
