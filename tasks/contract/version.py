"""The contract's version."""

from __future__ import annotations

CONTRACT_VERSION = 1
"""One more with every minor version that changes the contract."""


def understands(version: object) -> bool:
    """Whether we speak with who speaks this version: one more or one less than ours."""
    return isinstance(version, int) and abs(version - CONTRACT_VERSION) <= 1
