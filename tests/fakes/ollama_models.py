"""What an Ollama server has installed, and the models of the tests."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any


@dataclass
class Model:
    """One installed model. `capabilities` None: a server before 0.6.4, which does not say."""

    name: str
    capabilities: tuple[str, ...] | None = ("completion",)
    context_length: int = 8192
    family: str = "llama"
    parameter_size: str = "135M"
    quantisation: str = "Q4_1"
    size: int = 98_362_432
    remote_host: str = ""

    @property
    def digest(self) -> str:
        return base64.b16encode(self.name.encode()).decode().lower().ljust(64, "0")[:64]

    @property
    def details(self) -> dict[str, Any]:
        return {
            "parent_model": "",
            "format": "gguf",
            "family": self.family,
            "families": [self.family],
            "parameter_size": self.parameter_size,
            "quantization_level": self.quantisation,
        }

    def has(self, capability: str) -> bool:
        return self.capabilities is None or capability in self.capabilities


CHAT = Model("smollm2:135m", ("completion", "tools"))
THINKER = Model("qwen3.6:27b", ("completion", "tools", "thinking", "vision"), 262_144, "qwen3", "27B", "Q4_K_M")
EMBEDDER = Model("all-minilm:latest", ("embedding",), 512, "bert", "23M", "F16", 45_960_996)
PAINTER = Model("x/z-image-turbo:latest", ("image",), 0, "", "10.3B", "FP8", 12_000_000_000)
