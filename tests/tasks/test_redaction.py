"""Redaction by construction: no type that holds content shows it, no error quotes it, and all logs go one way."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import io
import logging
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from tasks import logs

ROOT = Path(__file__).parents[2]
ROOMS = ("bridge", "tasks", "worker", "ops")
SECRET = "the patient has a rare disease"
# fmt: off
CONTENT = frozenset({
    "body", "data", "parts", "resume", "tokens", "token_ids", "steps", "step", "unacked", "text", "prompt",
    "suffix", "messages", "response_key", "resume_key", "ciphertext", "seed", "secret", "password", "api_key",
    "redis_url",
})
# fmt: on
"""Names of fields that hold content or secrets wherever they stand."""


HARMLESS = {
    "bridge.protocol.from_api.Welcome": "marks: ids and numbers",
    "bridge.gathering._Gathered": "how much of each part came",
    "bridge.metrics.tally.Counts": "counts",
    "worker.store.curated.Catalogue": "a public list of models",
    "worker.store.sidecar.Sidecar": "files of a model",
    "ops.node_state.NodeState": "processes",
    "ops.node_state.Status": "its password is masked",
    "ops.docker.dockerfile.Instruction": "a Dockerfile",
    "ops.docker.dockerfile.Stage": "a Dockerfile",
    "ops.setup.Question": "our own words",
}
"""Classes with a field of such a name that holds something else."""

OWN_LOGS = {"tasks/logs.py", "worker/engine/log.py", "worker/engine/sequence.py"}
"""The way itself; what llama.cpp says, and ids with states (both only at DEBUG)."""


def classes() -> Iterator[type[Any]]:
    """Every class that our rooms define."""
    for room in ROOMS:
        for found in pkgutil.walk_packages([str(ROOT / room)], f"{room}."):
            if found.name.endswith(("__main__", "render_child")):
                continue
            module = importlib.import_module(found.name)
            for one in vars(module).values():
                if isinstance(one, type) and one.__module__ == found.name:
                    yield one


CLASSES = sorted(set(classes()), key=lambda one: f"{one.__module__}.{one.__qualname__}")
MODELS = [one for one in CLASSES if issubclass(one, BaseModel)]
DATACLASSES = [one for one in CLASSES if dataclasses.is_dataclass(one)]
FILES = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]


def name(one: Any) -> str:
    return f"{one.__module__}.{one.__qualname__}"


def test_there_is_something_to_look_at() -> None:
    assert len(MODELS) > 40
    assert len(DATACLASSES) > 100


@pytest.mark.parametrize("model", MODELS, ids=name)
def test_a_model_does_not_show_content(model: type[BaseModel]) -> None:
    shown = {field for field, info in model.model_fields.items() if info.repr and _may_hold(info.annotation)}
    assert not shown & CONTENT or name(model) in HARMLESS


@pytest.mark.parametrize("model", [one for one in MODELS if not one.__module__.startswith("ops.")], ids=name)
def test_a_models_error_does_not_quote_its_input(model: type[BaseModel]) -> None:
    assert model.model_config.get("hide_input_in_errors") is True
    with pytest.raises(ValidationError) as caught:
        model.model_validate(SECRET)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("one", DATACLASSES, ids=name)
def test_a_dataclass_does_not_show_content(one: Any) -> None:
    if "__repr__" in vars(one) and not one.__dataclass_params__.repr:
        return  # it says itself what it shows
    shown = {field.name for field in dataclasses.fields(one) if field.repr and _may_hold(field.type)}
    assert not shown & CONTENT or name(one) in HARMLESS


_NUMBERS = {"int", "float", "bool", "int | None", "float | None", "typing.Optional[int]"}


def _may_hold(annotation: Any) -> bool:
    """Counts and flags under such names are no content, and SecretStr shows stars by itself."""
    return (
        "SecretStr" not in str(annotation)
        and str(annotation).removeprefix("<class '").removesuffix("'>") not in _NUMBERS
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_logs_go_through_event(path: Path) -> None:
    """`log.info(…)`, `logging.warning(…)`, `traceback.print_exc()` would go around the rule."""
    if str(path.relative_to(ROOT)) in OWN_LOGS:
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and isinstance(node.func.value, ast.Name)
        ):
            owner, called = node.func.value.id.lower().strip("_"), node.func.attr
            loggers = owner in {"log", "logger", "logging"}
            assert not (loggers and called in {"debug", "info", "warning", "error", "exception", "critical", "log"})
            assert not (owner == "traceback" and called.startswith("print"))


class Strange:
    def __repr__(self) -> str:
        return SECRET


@pytest.mark.parametrize("formatter", [logs.Text(), logs.JsonLines("x")], ids=["text", "json"])
@pytest.mark.parametrize(
    "error",
    [
        ValueError(SECRET),
        KeyError(SECRET),
        RuntimeError(Strange()),
        UnicodeDecodeError("utf-8", SECRET.encode(), 0, 1, SECRET),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_is_raised_its_text_is_not_logged(formatter: logging.Formatter, error: Exception) -> None:
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.addFilter(logs.Redact())
    handler.setFormatter(formatter)
    log = logging.getLogger("tests.redaction")
    log.addHandler(handler)
    outer = OSError(SECRET)
    outer.__cause__ = error
    try:
        logs.event(log, logging.ERROR, "a.failed", error=outer, inside=[outer], body=SECRET)
        log.error("it broke: %s", outer, exc_info=outer)
        log.error("%r and %s", error, outer)
    finally:
        log.removeHandler(handler)
    assert "OSError" in out.getvalue()
    assert SECRET not in out.getvalue()
