"""What models of each family really write, and what is in it."""

from __future__ import annotations

from tests.worker.chat.toolcalls.reading import Said
from worker.chat.toolcalls import family as f
from worker.chat.toolcalls.family import ToolFamily

PARIS = ("get_weather", {"city": "Paris"})
ROME = ("get_weather", {"city": "Rome", "days": 3})
TIME = ("get_time", {})

OUTPUTS: list[tuple[ToolFamily, str, Said]] = [
    # Hermes, Qwen
    (f.HERMES, '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>', ("", [PARIS])),
    (
        f.HERMES,
        (
            'I will look.\n\n<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>\n'
            '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rome", "days": 3}}\n</tool_call>\n'
        ),
        ("I will look.", [PARIS, ROME]),
    ),
    (f.HERMES, '<tool_call>{"arguments": {"city": "Paris"}, "name": "get_weather"}</tool_call>', ("", [PARIS])),
    (f.HERMES, '<tool_call>{"name": "get_time"}</tool_call>', ("", [TIME])),
    (f.HERMES, '<tool_call>{"name": "get_time", "arguments": null}</tool_call>', ("", [TIME])),
    (f.HERMES, '<tool_call>{"name": "get_time", "arguments": {}}', ("", [TIME])),
    (f.HERMES, '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}\n</tool_call>', ("", [PARIS])),
    (f.HERMES, '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}}\n</tool_call>', ("", [PARIS])),
    (
        f.HERMES,
        '<tool_call>{"name": "get_weather", "arguments": "{\\"city\\": \\"Paris\\"}"}</tool_call>',
        ("", [PARIS]),
    ),
    (
        f.HERMES,
        '<tool_call>{"name": "get_weather", "arguments": {"city": "A\nB"}}</tool_call>',
        ("", [("get_weather", {"city": "A\nB"})]),
    ),
    (
        f.HERMES,
        r'<tool_call>{"name": "get_weather", "arguments": {"city": "\d \u00e9 \\ \""}}</tool_call>',
        ("", [("get_weather", {"city": '\\d é \\ "'})]),
    ),
    (
        f.HERMES,
        '<tool_call>{"name": "get_weather", "arguments": {"city": "</tool_call>", "days": None}}</tool_call>',
        ("", [("get_weather", {"city": "</tool_call>", "days": None})]),
    ),
    (
        f.HERMES,
        (
            '<tool_call>{"type": "function", "function": {"name": "get_weather", "arguments": {"city": "Paris"}}}'
            "</tool_call>"
        ),
        ("", [PARIS]),
    ),
    (
        f.HERMES,
        '<tool_call>{"name": "other", "arguments": {"x": [1, -2.5e3, {"y": []}]}}</tool_call>',
        ("", [("other", {"x": [1, -2.5e3, {"y": []}]})]),
    ),
    # Llama 3
    (f.LLAMA3, '{"name": "get_weather", "parameters": {"city": "Paris"}}', ("", [PARIS])),
    (
        f.LLAMA3,
        '<|python_tag|>{"type": "function", "name": "get_weather", "parameters": {"city": "Paris"}}',
        ("", [PARIS]),
    ),
    (
        f.LLAMA3,
        (
            '{"name": "get_weather", "parameters": {"city": "Paris"}}; {"name": "get_weather", "parameters": '
            '{"city": "Rome", "days": 3}}'
        ),
        ("", [PARIS, ROME]),
    ),
    (f.LLAMA3, 'Sure.<|python_tag|>{"name": "get_time", "parameters": {}}', ("Sure.", [TIME])),
    (f.LLAMA3, '{"name": "Ada", "age": 36}', ('{"name": "Ada", "age": 36}', [])),
    (f.LLAMA3, '{"city": "Paris"}', ('{"city": "Paris"}', [])),
    (f.LLAMA3, "The answer is {4}.", ("The answer is {4}.", [])),
    # Mistral
    (f.MISTRAL, '[TOOL_CALLS][{"name": "get_weather", "arguments": {"city": "Paris"}}]', ("", [PARIS])),
    (
        f.MISTRAL,
        (
            '[TOOL_CALLS] [{"name": "get_weather", "arguments": {"city": "Paris"}, "id": "123456789"}, '
            '{"name": "get_weather", "arguments": {"city": "Rome", "days": 3}}]'
        ),
        ("", [PARIS, ROME]),
    ),
    (f.MISTRAL_ARGS, '[TOOL_CALLS]get_weather[ARGS]{"city": "Paris"}', ("", [PARIS])),
    (
        f.MISTRAL_ARGS,
        ('Hm.[TOOL_CALLS]get_weather[ARGS]{"city": "Paris"}[TOOL_CALLS]get_weather[ARGS]{"city": "Rome", "days": 3}'),
        ("Hm.", [PARIS, ROME]),
    ),
    (f.MISTRAL_ARGS, '[TOOL_CALLS]get_weather[CALL_ID]123456789[ARGS]{"city": "Paris"}', ("", [PARIS])),
    (f.MISTRAL_ARGS, '[TOOL_CALLS]get_weather{"city": "Paris"}', ("", [PARIS])),
    # DeepSeek
    (
        f.DEEPSEEK,
        (
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n"
            '```json\n{"city": "Paris"}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>'
        ),
        ("", [PARIS]),
    ),
    (
        f.DEEPSEEK,
        (
            "Let me see.\n<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n"
            '{"city": "Paris"}\n```<｜tool▁call▁end｜>\n'
            "<｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n"
            '{"city": "Rome", "days": 3}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>'
        ),
        ("Let me see.", [PARIS, ROME]),
    ),
    (
        f.DEEPSEEK_V31,
        (
            '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{"city": "Paris"}<｜tool▁call▁end｜>'
            "<｜tool▁call▁begin｜>get_time<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
        ),
        ("", [PARIS, TIME]),
    ),
    # gpt-oss
    (
        f.HARMONY,
        '<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{"city": "Paris"}<|call|>',
        ("", [PARIS]),
    ),
    (
        f.HARMONY,
        '<|start|>assistant to=functions.get_weather<|channel|>commentary json<|message|>{"city": "Paris"}',
        ("", [PARIS]),
    ),
    (f.HARMONY, " to=functions.get_time<|channel|>analysis<|message|>{}", ("", [TIME])),
    # any other
    (f.GENERIC, '{"name": "get_weather", "arguments": {"city": "Paris"}}', ("", [PARIS])),
    (f.GENERIC, '```json\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n```', ("", [PARIS])),
    (
        f.GENERIC,
        (
            '[{"name": "get_weather", "arguments": {"city": "Paris"}}, {"name": "get_weather", "arguments": '
            '{"city": "Rome", "days": 3}}]'
        ),
        ("", [PARIS, ROME]),
    ),
    (f.GENERIC, '{"tool_calls": [{"name": "get_weather", "arguments": {"city": "Paris"}}]}', ("", [PARIS])),
    (f.GENERIC, '{"tool_call": {"name": "get_weather", "arguments": {"city": "Paris"}}}', ("", [PARIS])),
    (f.GENERIC, '{"name": "Ada"}', ('{"name": "Ada"}', [])),
    (f.GENERIC, "[]", ("[]", [])),
    (f.GENERIC, "```python\nprint(1)\n```", ("```python\nprint(1)\n```", [])),
    # Qwen3-Coder
    (
        f.QWEN_XML,
        "<tool_call>\n<function=get_weather>\n<parameter=city>\nParis\n</parameter>\n</function>\n</tool_call>",
        ("", [PARIS]),
    ),
    (
        f.QWEN_XML,
        (
            "Ok.\n<tool_call>\n<function=get_weather>\n<parameter=city>\nRome\n</parameter>\n<parameter=days>\n3\n"
            "</parameter>\n</function>\n</tool_call>\n<tool_call>\n<function=get_time>\n</function>\n</tool_call>"
        ),
        ("Ok.", [ROME, TIME]),
    ),
    (
        f.QWEN_XML,
        '<function=get_weather>\n<parameter=city>\n12 "x"\n\n</b>\n</parameter>\n</function>',
        ("", [("get_weather", {"city": '12 "x"\n\n</b>'})]),
    ),
    (f.QWEN_XML, '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>', ("", [PARIS])),
    (f.QWEN_XML, "Write <function=name> to call.", ("Write <function=name> to call.", [])),
]
