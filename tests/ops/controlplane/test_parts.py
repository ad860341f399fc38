"""Large parts on the wire: in pieces, between everything else, and only while they are wanted."""

from __future__ import annotations

import asyncio
import base64
import json

import pytest

from bridge.protocol import Blob
from ops.controlplane.gpu_socket import SocketLink
from ops.controlplane.parts import Arriving, frames
from tasks.blobs import PIECE_BYTES, ref_of
from tasks.errors import WorkerError


def test_parts_become_frames_in_order():
    made = [json.loads(text) for text in frames("j", {"file": bytes(PIECE_BYTES + 1), "body": b"{}"}, lambda: True)]
    assert [(f["name"], f["index"], f["last"]) for f in made] == [
        ("file", 0, False),
        ("file", 1, True),
        ("body", 0, True),
    ]
    assert base64.b64decode(made[1]["data"]) == b"\0"


def test_frames_end_when_nobody_wants_them():
    wanted = iter([True, False])
    assert len(list(frames("j", {"file": bytes(3 * PIECE_BYTES)}, lambda: next(wanted)))) == 1


class SlowSocket:
    """Passes one message on for every `let`."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self._turn = asyncio.Semaphore(0)

    async def send_text(self, text: str) -> None:
        self.sent.append(text)
        await self._turn.acquire()

    async def close(self, code: int, reason: str) -> None:
        self.sent.append("closed")

    async def let(self, count: int) -> None:
        before = len(self.sent)
        for _ in range(count):
            self._turn.release()
        async with asyncio.timeout(5):
            while len(self.sent) < before + count:  # noqa: ASYNC110  # the link has no event for it
                await asyncio.sleep(0)


async def test_what_is_sent_goes_before_the_next_piece_and_uploads_take_turns():
    socket = SlowSocket()
    link = SocketLink(socket, 1000)
    link.send_slowly(iter(["a0", "a1", "a2"]))
    link.send_slowly(iter(["b0", "b1"]))
    writing = asyncio.create_task(link.write())
    await asyncio.sleep(0)
    link.send("token")
    await socket.let(3)
    link.send("token2")
    await socket.let(3)
    assert socket.sent == ["a0", "token", "b0", "a1", "token2", "b1", "a2"]
    link.close(1000, "")
    await socket.let(1)
    await writing
    assert socket.sent[-1] == "closed"


def test_a_reply_is_put_together_and_checked():
    arriving = Arriving("reply.0")
    arriving.add(Blob(job_id="j", name="reply.0", index=0, data=base64.b64encode("ä".encode()).decode(), last=True))
    assert arriving.done
    assert arriving.text(ref_of("reply.0", 2)) == "ä"
    with pytest.raises(WorkerError):
        arriving.text(ref_of("reply.0", 3))


@pytest.mark.parametrize(
    "blob",
    [
        Blob(job_id="j", name="reply.1", index=0, data="AAAA"),
        Blob(job_id="j", name="reply.0", index=1, data="AAAA"),
        Blob(job_id="j", name="reply.0", index=0, data="%"),
    ],
)
def test_pieces_that_do_not_fit_are_refused(blob):
    with pytest.raises(WorkerError):
        Arriving("reply.0").add(blob)


def test_a_reply_over_the_limit_is_refused(monkeypatch):
    monkeypatch.setattr("ops.controlplane.parts.MAX_REPLY_BYTES", 2)
    with pytest.raises(WorkerError) as caught:
        Arriving("r").add(Blob(job_id="j", name="r", index=0, data="AAAA"))
    assert caught.value.code == "reply_too_large"
