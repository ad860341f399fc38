"""From a completion job to what the engine gets and what makes the reply. Safe from any thread."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from tasks.contract import Job
from tasks.errors import BadRequestError
from worker.backends.generation import Generation, Model, check_room, delivered, request_of, sampling_for, with_bos
from worker.backends.grammars import Grammars
from worker.chat.notices import NO_PROMISE, Promise
from worker.chat.structured.compiled import Compiled
from worker.chat.structured.request import structured_output
from worker.completion.echo import Echo
from worker.completion.reply import CompletionReply
from worker.completion.request import CompletionRequest, Prompt, parse_completion
from worker.engine.api import TokenMasker
from worker.generate.choice import Choice
from worker.generate.logprobs import LegacyLogprobs, Pieces
from worker.generate.resumption import Delivered

Tokens = tuple[int, ...]


class Completions:
    """One model's."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._grammars = Grammars(model.vocab, ())

    def prepare(self, job: Job, ctx_limit: int) -> Generation:
        """Raises BadRequestError."""
        asked = parse_completion(job.body)
        shaped = structured_output(job.body)
        grammar = shaped[0] if shaped else None
        promise = (
            Promise(grammar.json, grammar.not_enforced if shaped and shaped[1] else ()) if grammar else NO_PROMISE
        )
        prompts = [self._tokens(prompt, asked.suffix) for prompt in asked.prompts]
        for prompt in prompts:
            check_room(len(prompt), job, ctx_limit, what="prompt's words", param="prompt")
        got = delivered(job, len(prompts) * asked.n)
        sampling = sampling_for(asked, self._model)
        asked_of_engine = replace(asked, logprobs=asked.logprobs or 0) if asked.keep < asked.n else asked
        requests = tuple(
            replace(
                request_of(
                    job, asked_of_engine, prompt, got, sampling=sampling, number=number, masker=self._masker(grammar)
                ),
                prompt_logprobs=asked.echo and asked.logprobs is not None,
            )
            for number, prompt in enumerate(prompts)
        )
        return Generation(requests, self._reply(job, asked, prompts, got, promise))

    def _masker(self, grammar: Compiled | None) -> TokenMasker | None:
        """A new one for each prompt: each reply has its own place in the grammar."""
        return self._grammars.constraint(grammar.grammar()) if grammar else None

    def _tokens(self, prompt: Prompt, suffix: str) -> Tokens:
        """Text gets the model's BOS; token ids are taken as they are."""
        if suffix:
            return self._filled(prompt, suffix)
        if not isinstance(prompt, str):
            return prompt
        return with_bos(self._model.tokenize(prompt, add_special=False, parse_special=True), self._model.vocab)

    def _filled(self, prompt: Prompt, suffix: str) -> Tokens:
        """Fill in the middle, in the order nearly all models learned: prefix, suffix, middle."""
        fill = self._model.vocab.fill
        if fill is None:
            raise BadRequestError(
                "suffix: this model has no tokens for filling in the middle; leave it out, or ask a code model",
                code="unsupported_parameter",
                param="suffix",
            )
        before = self._plain(prompt) if isinstance(prompt, str) else [*prompt]
        return with_bos([fill.prefix, *before, fill.suffix, *self._plain(suffix), fill.middle], self._model.vocab)

    def _plain(self, text: str) -> list[int]:
        return self._model.tokenize(text, add_special=False)

    def _reply(
        self, job: Job, asked: CompletionRequest, prompts: list[Tokens], got: Delivered, promise: Promise
    ) -> CompletionReply:
        count = len(prompts) * asked.n
        choices = [Choice(i, resumed=bool(got.of(i)), told=i in got.ended) for i in range(count)]
        pieces = self._model.vocab.renderer(True)  # noqa: FBT003  # what was sent as a token is shown as one
        echoes = list(map(partial(self._echo, pieces), asked.prompts, prompts)) if asked.echo else []
        scores = []
        if asked.logprobs is not None:
            offsets = [len(echoes[i // asked.n].text) if echoes else 0 for i in range(count)]
            scores = [_scores(pieces, got.of(i), offset) for i, offset in enumerate(offsets)]
        return CompletionReply(
            job,
            choices,
            echoes=echoes,
            scores=scores,
            promise=promise,
            made=asked.n,
            keep=asked.keep,
            pieces_of=pieces,
        )

    def _echo(self, pieces: Pieces, prompt: Prompt, tokens: Tokens) -> Echo:
        """`tokens`: what the model reads for `prompt`."""
        if not isinstance(prompt, str):
            return Echo(b"".join(map(pieces, prompt)).decode("utf-8", "replace"), tokens)
        given = tokens[:1] == (self._model.vocab.bos,) and not prompt.startswith(self._model.bos_text)
        return Echo(prompt, tokens[1:] if given else tokens, before=int(given))


def _scores(pieces: Pieces, delivered: Tokens, offset: int) -> LegacyLogprobs:
    scores = LegacyLogprobs(pieces, offset)
    scores.skip(delivered)
    return scores
