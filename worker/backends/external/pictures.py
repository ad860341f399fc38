"""Pictures in a request that only has their address: refused.

Whoever fetched them, this worker or the server beside it, would let every client reach into the network it stands in.
"""

from __future__ import annotations

from typing import Any

from tasks.contract import JsonObject
from tasks.errors import BadRequestError

UNSUPPORTED_CONTENT = "unsupported_content"


def address_of(part: Any) -> Any:
    """What an image part names its image by: a data URL, an address, or nonsense; None when it is no such part."""
    if not isinstance(part, dict) or part.get("type") not in ("image_url", "input_image"):
        return None
    image = part.get("image_url")
    return image.get("url") if isinstance(image, dict) else image


def refuse_address(url: Any, where: str) -> None:
    """Raises BadRequestError for an address; `where` is the part's place in the request."""
    if isinstance(url, str) and url.lstrip()[:8].lower().startswith(("http://", "https://")):
        raise BadRequestError(
            f"{where} is an image behind an address, and none is fetched: send the image itself as "
            "data:image/png;base64,…",
            code=UNSUPPORTED_CONTENT,
            param=where,
        )


def refuse_addresses(body: JsonObject) -> None:
    """The same for all parts of all messages; what is not shaped like messages is left to others."""
    messages = body.get("messages")
    for index, message in enumerate(messages if isinstance(messages, list) else ()):
        content = message.get("content") if isinstance(message, dict) else None
        for place, part in enumerate(content if isinstance(content, list) else ()):
            refuse_address(address_of(part), f"messages[{index}].content[{place}]")
