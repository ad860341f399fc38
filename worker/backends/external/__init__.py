"""Backends that run beside us (Ollama, vLLM, LM Studio, Speaches): found, verified, listed, served, managed."""
