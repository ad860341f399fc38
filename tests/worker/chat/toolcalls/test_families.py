"""Each family's calls are found in what its models write, however it is cut."""

from __future__ import annotations

import pytest

from tests.worker.chat.toolcalls.outputs import OUTPUTS
from tests.worker.chat.toolcalls.reading import Said, read
from worker.chat.toolcalls.family import ToolFamily


@pytest.mark.parametrize(("family", "text", "expected"), OUTPUTS)
def test_calls_are_found(family: ToolFamily, text: str, expected: Said) -> None:
    assert read(family, [text]) == expected
    assert read(family, list(text)) == expected
