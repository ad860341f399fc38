from __future__ import annotations

from pathlib import Path
from typing import get_args

from bridge import protocol
from bridge.protocol_doc import document

PAGE = Path(__file__).resolve().parents[2] / "docs" / "protocol.md"


def test_the_page_is_what_the_models_say() -> None:
    assert PAGE.read_text("utf-8") == document(), "run: python -m bridge.protocol_doc > docs/protocol.md"


def test_every_frame_field_and_close_code_is_on_it() -> None:
    text = document()
    for union in (protocol.ApiFrame, protocol.BridgeFrame):
        for model in get_args(get_args(union)[0]):
            assert f"### `{model.model_fields['type'].default}`" in text
            assert all(f"| `{name}` |" in text for name in model.model_fields if name != "type")
    assert all(f"| {int(code)} | `{code.name}` |" in text for code in protocol.CloseCode)
