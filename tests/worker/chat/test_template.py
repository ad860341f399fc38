"""Chat templates: rendered as Hugging Face renders them, kept in a sandbox, and quiet about what they were given."""

from __future__ import annotations

import json

import pytest

from tasks.errors import BadRequestError, WorkerError
from worker.chat import template as module
from worker.chat.template import ChatTemplate
from worker.store.gguf_reader import read_header

HI = [{"role": "user", "content": "hi"}]
SECRET = "xyzzy-the-patient"


def test_smollm2s_own_template(smollm2):
    with smollm2.open("rb") as file:
        source = read_header(file).meta["tokenizer.chat_template"]
    chat = ChatTemplate(source, bos_text="<|im_start|>", eos_text="<|im_end|>")
    assert chat.render([{"role": "user", "content": "Name the capital of France."}]) == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nName the capital of France.<|im_end|>\n<|im_start|>assistant\n"
    )
    told = [{"role": "system", "content": "Be brief."}, *HI, {"role": "assistant", "content": "hello"}, *HI]
    assert chat.render(told) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n"
        "<|im_start|>assistant\nhello<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    )


def test_chatml_where_the_file_has_no_template():
    assert ChatTemplate(None).render(HI) == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"


def test_blocks_are_trimmed_as_hugging_face_does():
    source = (
        "{% for m in messages %}\n    {% if m.role == 'user' %}\n{{ m.content }}\n    {% endif %}\n{% endfor %}\n"
    )
    assert ChatTemplate(source).render(HI) == "hi\n"


def test_loop_controls_generation_and_namespace():
    source = (
        "{% set ns = namespace(n=0) %}{% for m in messages %}{% if loop.index > 1 %}{% break %}{% endif %}"
        "{% set ns.n = ns.n + 1 %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}{{ ns.n }}"
    )
    assert ChatTemplate(source).render(HI * 3) == "hi1"


def test_bos_eos_tools_and_variables():
    source = (
        "{{ bos_token }}{% if tools %}{{ tools | tojson }}{% endif %}{{ messages[0].content }}{{ eos_token }}"
        "{% if enable_thinking is defined and not enable_thinking %}/no_think{% endif %}"
    )
    chat = ChatTemplate(source, bos_text="<s>", eos_text="</s>")
    tools = [{"type": "function", "function": {"name": "größe", "about": "<a&b>"}}]
    assert chat.render(HI) == "<s>hi</s>"
    assert chat.render(HI, tools=[]) == "<s>hi</s>"
    assert chat.render(HI, tools=tools) == f"<s>{json.dumps(tools, ensure_ascii=False)}hi</s>"
    assert chat.render(HI, extra={"enable_thinking": False}) == "<s>hi</s>/no_think"


def test_tojson_takes_hugging_faces_arguments():
    assert ChatTemplate("{{ {'b': 1, 'a': 'é'} | tojson(sort_keys=true, ensure_ascii=true) }}").render(HI) == (
        '{"a": "\\u00e9", "b": 1}'
    )


def test_strftime_now():
    assert ChatTemplate("{{ strftime_now('%Y') }}").render(HI).isdigit()


def test_content_as_parts_for_templates_that_only_read_parts():
    source = (
        "{% for m in messages %}{% for p in m.content %}{% if p.type == 'text' %}[{{ p.text }}]{% endif %}"
        "{% endfor %}{% endfor %}"
    )
    assert ChatTemplate(source).render(HI) == "[hi]"


def test_developer_is_system_unless_the_template_knows_better():
    told = [{"role": "developer", "content": "x"}]
    assert "<|im_start|>system\nx" in ChatTemplate(None).render(told)
    assert ChatTemplate("{# developer #}{{ messages[0].role }}").render(told) == "developer"


def test_a_refusal_is_told_in_the_templates_own_words():
    source = (
        "{% if messages[0].role != 'system' %}{{ raise_exception('A system message must be first.') }}{% endif %}"
    )
    with pytest.raises(BadRequestError, match=r"refused the messages: A system message must be first\.") as caught:
        ChatTemplate(source).render(HI)
    assert caught.value.code == "bad_request"
    assert caught.value.param == "messages"


@pytest.mark.parametrize(
    "source",
    [
        "{{ raise_exception('Unexpected content: ' + messages[0].content) }}",
        "{{ raise_exception(messages[0].content) }}",
        "{{ raise_exception('x' ~ messages[0].content) }}",
        "{{ messages[0].content + 1 }}",
        "{{ {}[messages[0].content].a }}",
        "{{ messages[0][messages[0].content]() }}",
        "{{ [1] | join(messages[0].content, attribute=messages[0].content) | int + [] }}",
    ],
)
def test_a_failing_template_never_quotes_a_message(source):
    with pytest.raises(BadRequestError) as caught:
        ChatTemplate(source).render([{"role": "user", "content": SECRET}])
    assert SECRET not in caught.value.message
    assert SECRET not in repr(caught.value)
    assert caught.value.__context__ is None


def test_the_templates_own_beginning_is_kept():
    with pytest.raises(BadRequestError, match="Unexpected role: …"):
        ChatTemplate("{{ raise_exception('Unexpected role: ' + messages[0].role) }}").render(HI)


def test_a_failure_names_the_line():
    with pytest.raises(BadRequestError, match="UndefinedError at its line 3"):
        ChatTemplate("a\nb\n{{ messages[0].nothing.more }}").render(HI)


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{{ 'a' * 99999999 * 99999999 }}",
        "{{ [0] * 999999999 }}",
        "{{ 9 ** 99999999 }}",
        "{% for i in range(10000000) %}x{% endfor %}",
    ],
)
def test_the_sandbox_holds(source):
    with pytest.raises(BadRequestError):
        ChatTemplate(source).render(HI)


def test_a_prompt_without_end_is_stopped(monkeypatch):
    monkeypatch.setattr(module, "MAX_CHARS", 1000)
    with pytest.raises(BadRequestError, match="more than 1000 characters"):
        ChatTemplate("{% for i in range(2000) %}x{{ i }}{% endfor %}").render(HI)


def test_a_template_that_is_no_jinja_is_a_load_failure():
    with pytest.raises(WorkerError, match="line 2") as caught:
        ChatTemplate("ok\n{% for %}")
    assert caught.value.code == "model_load_failed"
