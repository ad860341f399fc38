"""A driver in pynvml's place: GPUs that can be lost, MIG instances, processes, old bindings that give bytes."""

# ruff: noqa: N802  # NVML's names
from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any


class NVMLError(Exception):
    def __init__(self, value: int = 999) -> None:
        super().__init__(value)
        self.value = value


NOT_SUPPORTED, LOST, NOT_FOUND, RESET = 3, 15, 6, 16


@dataclass
class Card:
    """One GPU. `ecc` None: it has none. `processes`: (pid, bytes or None). `near`: words of its CPU affinity."""

    uuid: str
    name: str = "NVIDIA H200"
    used: int = 1 << 30
    total: int = 140 << 30
    celsius: int = 41
    milliwatts: int = 350_000
    busy: int = 70
    ecc: int | None = 0
    mig: list[Card] | None = None
    processes: list[tuple[int, int | None]] = field(default_factory=list)
    near: tuple[int, ...] = (0b1111,)
    lost: bool = False
    instance: bool = False


class FakeNvml:
    """The module. `driver` False: no driver is installed."""

    NVMLError = NVMLError
    NVML_ERROR_GPU_IS_LOST, NVML_ERROR_RESET_REQUIRED, NVML_ERROR_NOT_FOUND = LOST, RESET, NOT_FOUND
    NVML_DEVICE_MIG_ENABLE, NVML_TEMPERATURE_GPU = 1, 0
    NVML_MEMORY_ERROR_TYPE_UNCORRECTED, NVML_VOLATILE_ECC = 1, 0

    def __init__(self, *cards: Card, driver: bool = True, as_bytes: bool = False) -> None:
        self.cards, self.driver, self.as_bytes = list(cards), driver, as_bytes
        self.open = 0

    def nvmlInit(self) -> None:
        if not self.driver:
            raise NVMLError(9)
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlDeviceGetCount(self) -> int:
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, number: int) -> Card:
        if number >= len(self.cards):
            raise NVMLError(2)
        return self._alive(self.cards[number])

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> Card:
        for one in [one for card in self.cards for one in (card, *(card.mig or ()))]:
            if one.uuid == uuid:
                return self._alive(one)
        raise NVMLError(NOT_FOUND)

    def nvmlDeviceGetUUID(self, card: Card) -> str | bytes:
        return self._text(self._alive(card).uuid)

    def nvmlDeviceGetName(self, card: Card) -> str | bytes:
        return self._text(self._alive(card).name)

    def nvmlDeviceGetMigMode(self, card: Card) -> list[int]:
        if self._alive(card).mig is None:
            raise NVMLError(NOT_SUPPORTED)
        return [1, 1]

    def nvmlDeviceGetMaxMigDeviceCount(self, _card: Card) -> int:
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, card: Card, number: int) -> Card:
        instances = card.mig or []
        if number >= len(instances):
            raise NVMLError(NOT_SUPPORTED)  # not NOT_FOUND: an instance that is not there is no lost GPU
        return instances[number]

    def nvmlDeviceGetCpuAffinity(self, card: Card, words: int) -> list[int]:
        return [*self._alive(card).near, *[0] * words][:words]

    def nvmlDeviceGetMemoryInfo(self, card: Card) -> SimpleNamespace:
        alive = self._alive(card)
        return SimpleNamespace(used=alive.used, total=alive.total, free=alive.total - alive.used)

    def nvmlDeviceGetTemperature(self, card: Card, _sensor: int) -> int:
        return self._whole(card).celsius

    def nvmlDeviceGetPowerUsage(self, card: Card) -> int:
        return self._whole(card).milliwatts

    def nvmlDeviceGetUtilizationRates(self, card: Card) -> SimpleNamespace:
        return SimpleNamespace(gpu=self._whole(card).busy, memory=0)

    def nvmlDeviceGetTotalEccErrors(self, card: Card, _kind: int, _counter: int) -> int:
        errors = self._whole(card).ecc
        if errors is None:
            raise NVMLError(NOT_SUPPORTED)
        return errors

    def nvmlDeviceGetComputeRunningProcesses(self, card: Card) -> list[Any]:
        return [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in self._alive(card).processes]

    def _whole(self, card: Card) -> Card:
        if self._alive(card).instance:
            raise NVMLError(NOT_SUPPORTED)
        return card

    def _alive(self, card: Card) -> Card:
        if card.lost:
            raise NVMLError(LOST)
        return card

    def _text(self, text: str) -> str | bytes:
        return text.encode() if self.as_bytes else text
