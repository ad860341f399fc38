"""Every stable error code that the source names, found by reading it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_PACKAGES = ("bridge", "tasks", "worker", "ops")
_CODE = re.compile(r"[a-z]+(_[a-z]+)*")
_NOTICES = frozenset({"Notice"})  # their codes are words to a reply that went well, not errors


def codes() -> dict[str, set[str]]:
    """Code → the files that name it: `code="…"` of a call, `default_code = "…"` and `code = "…"` of a class."""
    found: dict[str, set[str]] = {}
    for package in _PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for code in _codes(ast.parse(path.read_text("utf-8"))):
                found.setdefault(code, set()).add(str(path.relative_to(ROOT)))
    return found


def _codes(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _name(node.func) not in _NOTICES:
            for keyword in node.keywords:
                if keyword.arg == "code":
                    yield from _texts(keyword.value)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if node.value and any(isinstance(t, ast.Name) and t.id == "default_code" for t in targets):
                yield from _texts(node.value)


def _name(func: ast.expr) -> str:
    return func.attr if isinstance(func, ast.Attribute) else func.id if isinstance(func, ast.Name) else ""


def _texts(value: ast.expr) -> Iterator[str]:
    """The texts that the expression may be, not those that it compares with."""
    if isinstance(value, ast.Constant) and isinstance(value.value, str) and _CODE.fullmatch(value.value):
        yield value.value
    elif isinstance(value, ast.IfExp):
        yield from _texts(value.body)
        yield from _texts(value.orelse)
    elif isinstance(value, ast.BoolOp):
        for part in value.values:
            yield from _texts(part)
