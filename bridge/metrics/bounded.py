"""Label values that cannot grow without end. Pure."""

from __future__ import annotations

OTHER = "other"


class Bounded:
    """The first `most` different keys keep their values; all later ones become `other`.

    A key once seen stays: a series that Prometheus knows does not change its name while this process lives.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: set[tuple[str, ...]] = set()

    def __contains__(self, values: tuple[str, ...]) -> bool:
        return values in self._known

    def __call__(self, *values: str) -> tuple[str, ...]:
        if values in self._known:
            return values
        if len(self._known) >= self._most:
            return (OTHER,) * len(values)
        self._known.add(values)
        return values
