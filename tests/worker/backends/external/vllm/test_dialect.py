from __future__ import annotations

from worker.backends.external.vllm.dialect import to_vllm


def test_our_names_become_vllms():
    body = to_vllm({"repeat_penalty": 1.1, "enable_thinking": False, "top_k": 5})
    assert body == {"repetition_penalty": 1.1, "chat_template_kwargs": {"enable_thinking": False}, "top_k": 5}


def test_what_the_client_said_in_vllms_own_words_wins():
    given = {"enable_thinking": False, "chat_template_kwargs": {"enable_thinking": True}, "repetition_penalty": 2}
    body = to_vllm({**given, "repeat_penalty": 1})
    assert body == {"chat_template_kwargs": {"enable_thinking": True}, "repetition_penalty": 2}
