"""What a PromQL expression asks for: which series, which labels of them, and which labels come out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import promql_parser as promql

ADDED = frozenset({"job", "instance"})  # by Prometheus itself, to every series
_VARIABLES = {"$__rate_interval": "5m", "$model": ".*", "$worker": ".*"}
_PLAIN = {"MatchOp.Equal", "MatchOp.NotEqual"}
_POSITIVE = {"MatchOp.Equal", "MatchOp.Re"}


@dataclass(frozen=True)
class Selected:
    """One series selector; `grouped`: labels that aggregations around it keep."""

    name: str
    matchers: tuple[Any, ...]
    grouped: frozenset[str]


def parsed(query: str) -> Any:
    """The query as Grafana would send it. Raises ValueError when it is no PromQL."""
    for name, value in _VARIABLES.items():
        query = query.replace(name, value)
    return promql.parse(query)


def selectors(node: Any, grouped: frozenset[str] = frozenset()) -> Iterator[Selected]:
    """Every selector in the expression."""
    if isinstance(node, promql.VectorSelector):
        yield Selected(node.name, tuple(node.matchers.matchers), grouped)
        return
    if isinstance(node, promql.AggregateExpr):
        grouped |= frozenset(node.modifier.labels) if node.modifier else frozenset()
    for child in _children(node):
        yield from selectors(child, grouped)


def _children(node: Any) -> Iterator[Any]:
    for name in ("lhs", "rhs", "expr", "vector_selector"):
        if (child := getattr(node, name, None)) is not None:
            yield child
    yield from getattr(node, "args", ())


def shown(text: str) -> set[str]:
    """Labels that a legend (`{{model}}`) or an annotation (`{{ $labels.model }}`) names."""
    return set(re.findall(r"\{\{\s*(?:\$labels\.)?([a-z_]+)\s*\}\}", text))


def matches(matcher: Any, value: str) -> bool:
    """Whether this label value passes the matcher."""
    same = value == matcher.value if str(matcher.op) in _PLAIN else re.fullmatch(matcher.value, value) is not None
    return same is (str(matcher.op) in _POSITIVE)
