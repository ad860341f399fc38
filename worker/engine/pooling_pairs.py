"""How a reranker reads a query and a document: as one input, put together as llama-server does it."""

from __future__ import annotations

from llama_cpp import llama_cpp as lib

from worker.engine.model import LoadedModel

_TEMPLATE = "tokenizer.chat_template.rerank"
_PROBABLE = ("qwen3", "qwen3vl")  # llama.cpp ends these models' graphs with a softmax


class PairTokens:
    """Makes inputs of pairs. Any thread; valid as long as the model is."""

    def __init__(self, model: LoadedModel) -> None:
        self._model = model
        self._template = model.metadata.get(_TEMPLATE)
        vocab = lib.llama_model_get_vocab(model.handle)
        sep: int = lib.llama_vocab_sep(vocab)
        eos = model.vocab.eos if model.vocab.eos >= 0 else sep
        self._begin = [model.vocab.bos] if model.vocab.adds_bos else []
        self._end = [eos] if lib.llama_vocab_get_add_eos(vocab) else []
        self._between = self._end + ([sep] if lib.llama_vocab_get_add_sep(vocab) else [])
        self.probabilities = model.metadata.get("general.architecture") in _PROBABLE
        """Whether the model's scores lie in 0 to 1 already; else they are logits."""

    def tokens(self, query: str, document: str) -> tuple[int, ...]:
        """The model's own template for it where the file has one, else `[BOS] query [EOS] [SEP] document [EOS]`.

        The brackets stand for what this vocabulary adds; text is never read as a special token then.
        """
        if self._template is not None:
            return self._filled(self._template, query, document)
        first = self._model.tokenize(query, add_special=False)
        second = self._model.tokenize(document, add_special=False)
        return (*self._begin, *first, *self._between, *second, *self._end)

    def _filled(self, template: str, query: str, document: str) -> tuple[int, ...]:
        # split first: a query that contains "{document}" stays a query
        pieces = [piece.replace("{query}", query) for piece in template.split("{document}")]
        return tuple(self._model.tokenize(document.join(pieces), add_special=False, parse_special=True))
