"""How other threads talk to the engine thread: a queue it drains between steps and sleeps on while idle."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

from worker.engine.api import GenerationRequest


@dataclass(frozen=True, slots=True)
class Submit:
    request: GenerationRequest
    at: float


@dataclass(frozen=True, slots=True)
class Cancel:
    request_id: str


Message = Submit | Cancel


class Inbox:
    """Many writers, one reader."""

    def __init__(self) -> None:
        self._messages: deque[Message] = deque()
        self._changed = threading.Condition()
        self.closed = False

    def __len__(self) -> int:
        return len(self._messages)

    def put(self, message: Message) -> bool:
        """Any thread; never waits for a step. False once the inbox is closed."""
        with self._changed:
            if self.closed:
                return False
            self._messages.append(message)
            self._changed.notify()
        return True

    def close(self) -> None:
        with self._changed:
            self.closed = True
            self._changed.notify()

    def wait(self) -> None:
        """The reader: sleep until there is a message or the inbox is closed."""
        with self._changed:
            while not self._messages and not self.closed:
                self._changed.wait()

    def take(self) -> Message | None:
        """The reader: the next message, None when there is none. Cheap enough for every step."""
        return self._messages.popleft() if self._messages else None
