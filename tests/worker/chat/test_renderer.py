"""Hostile templates: whatever they do, it ends, and the next render works."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tasks.errors import BadRequestError, WorkerError
from worker.chat import renderer as module
from worker.chat.renderer import MAX_STRIKES, Outcome, Renderer
from worker.chat.template import MAX_SOURCE_CHARS, ChatTemplate

SECRET = "xyzzy-the-patient"
_LOOP, _END = "{% for a in range(99999) %}", "{% endfor %}"
ENDLESS = 3 * _LOOP + 3 * _END
ONE_LONG_STEP = (
    "{% set ns = namespace(n=7) %}{% for i in range(40) %}{% set ns.n = ns.n * ns.n %}{% endfor %}{{ ns.n }}"
)


@pytest.fixture
def renderer() -> Iterator[Renderer]:
    made = Renderer(seconds=0.5)
    yield made
    made.close()


def render(renderer: Renderer, source: str, **variables: object) -> Outcome:
    return renderer.ask(source, {"variables": variables, "max_chars": 10_000}).outcome


def works(renderer: Renderer) -> bool:
    return renderer.ask("{{ x }}", {"variables": {"x": "hi"}, "max_chars": 10}).text == "hi"


@pytest.mark.parametrize(
    "source",
    [
        ENDLESS,
        ONE_LONG_STEP,
        "{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}",
        "{% set ns = namespace(x='x' * 1000) %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
        "{{ 'x' | center(99999999999) }}",
        "{{ '%99999999999d' % 1 }}",
        "{{ '{:99999999999}'.format(1) }}",
        "{{ 'x'.ljust(99999999999) }}",
        "{{ lipsum(n=9999999) }}",
        "{{ {} | tojson(indent=99999999999) }}",
        "{{ 9 ** 9 ** 9 }}",
    ],
)
def test_what_never_ends_or_grows_without_end(renderer: Renderer, source: str) -> None:
    assert render(renderer, source) in {Outcome.OVERTIME, Outcome.FAILED, Outcome.TOO_LONG}
    assert works(renderer)


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ x.__init__.__globals__ }}",
        "{{ (x | attr('__class__')).__base__ }}",
        "{{ '{0.__class__.__mro__}'.format(x) }}",
        "{{ raise_exception.__globals__['json'] }}",
        "{{ cycler.__init__.__globals__.os.system('id') }}",
        "{{ self._TemplateReference__context.environment }}",
        "{{ x.keys.__self__ }}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}{{ os }}",
        "{{ lipsum.__globals__['os'].popen('id').read() }}",
    ],
)
def test_no_way_out_of_the_sandbox(renderer: Renderer, source: str) -> None:
    done = renderer.ask(source, {"variables": {"x": {}}, "max_chars": 10_000})
    assert done.outcome is not Outcome.DONE or "class" not in done.text
    assert "root:" not in done.text
    assert "uid=" not in done.text
    assert works(renderer)


@pytest.mark.skipif(not hasattr(os, "posix_spawn"), reason="POSIX limits")
def test_its_process_can_open_nothing_and_knows_nothing(renderer: Renderer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENDRA_FLEET_KEY", SECRET)
    assert works(renderer)
    if not os.path.exists(f"/proc/{renderer.pid}/limits"):  # noqa: PTH110
        pytest.skip("no /proc")
    with open(f"/proc/{renderer.pid}/limits") as file:  # noqa: PTH123
        limits = {line[:26].strip(): line[26:].split()[0] for line in file}
    assert (limits["Max open files"], limits["Max file size"], limits["Max core file size"]) == ("3", "0", "0")
    assert int(limits["Max address space"]) <= 1 << 30
    with open(f"/proc/{renderer.pid}/environ", "rb") as file:  # noqa: PTH123
        assert SECRET.encode() not in file.read()


def test_a_template_that_was_too_much_is_not_tried_for_ever(renderer: Renderer) -> None:
    assert [render(renderer, ENDLESS) for _ in range(MAX_STRIKES)] == [Outcome.OVERTIME] * MAX_STRIKES
    assert works(renderer)
    before = renderer.pid
    assert render(renderer, ENDLESS) is Outcome.OVERTIME
    assert renderer.pid == before, "the process was not even asked"


def test_a_process_that_died_is_replaced(renderer: Renderer) -> None:
    assert works(renderer)
    assert renderer._process is not None
    renderer._process.kill()
    renderer._process.wait()
    render(renderer, "{{ x }}", x="lost")  # may be the one that finds out
    assert works(renderer)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RENDER_S", 0.3)


@pytest.mark.usefixtures("quick")
def test_a_model_whose_template_never_ends_does_not_load() -> None:
    with pytest.raises(WorkerError, match="takes longer than") as caught:
        ChatTemplate(ENDLESS)
    assert caught.value.code == "model_load_failed"


@pytest.mark.usefixtures("quick")
def test_one_that_never_ends_for_some_messages() -> None:
    chat = ChatTemplate("{{ messages[0].content }}{% if messages | length > 1 %}" + ENDLESS + "{% endif %}")
    told = [{"role": "user", "content": SECRET}]
    with pytest.raises(BadRequestError, match="longer than") as caught:
        chat.render(told * 2)
    assert SECRET not in caught.value.message
    assert chat.render(told) == SECRET


def test_a_source_without_end() -> None:
    with pytest.raises(WorkerError, match="longer than"):
        ChatTemplate("x" * (MAX_SOURCE_CHARS + 1))
    with pytest.raises(WorkerError) as caught:
        ChatTemplate("{{ " + "(" * 50_000 + ")" * 50_000 + " }}")
    assert caught.value.code == "model_load_failed"


def test_what_came_back_is_not_shown() -> None:
    done = module.render("{{ x }}", {"x": SECRET}, 100)
    assert done.text == SECRET
    assert SECRET not in repr(done)
