"""vLLM: found by `/version` and `/v1/models`, served through its OpenAI API, never managed by us."""

from worker.backends.external.vllm.product import Vllm

__all__ = ["Vllm"]
