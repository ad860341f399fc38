"""From a completion job to what the engine gets and what makes the reply. Safe from any thread."""

from __future__ import annotations

from dataclasses import replace

from tasks.contract import Job
from tasks.errors import BadRequestError
from worker.backends.generation import Generation, Model, check_room, delivered, request_of, sampling_for, with_bos
from worker.backends.grammars import Grammars
from worker.chat.notices import NO_PROMISE, Promise
from worker.chat.structured.compiled import Compiled
from worker.chat.structured.request import structured_output
from worker.completion.reply import CompletionReply
from worker.completion.request import CompletionRequest, Prompt, parse_completion
from worker.engine.api import TokenMasker
from worker.generate.choice import Choice
from worker.generate.logprobs import LegacyLogprobs
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
        scored = replace(asked, logprobs=asked.logprobs or 0) if asked.keep < asked.n else asked
        requests = tuple(
            request_of(job, scored, prompt, got, sampling=sampling, number=number, masker=self._masker(grammar))
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
        echoes = [self._echo(prompt) for prompt in asked.prompts for _ in range(asked.n)] if asked.echo else []
        scores = [] if asked.logprobs is None else [self._scores(got.of(i)) for i in range(count)]
        return CompletionReply(
            job, choices, echoes=echoes, scores=scores, promise=promise, made=asked.n, keep=asked.keep
        )

    def _echo(self, prompt: Prompt) -> str:
        if isinstance(prompt, str):
            return prompt
        pieces = self._model.vocab.renderer(True)  # noqa: FBT003  # what was sent as a token is shown as one
        return b"".join(pieces(token) for token in prompt).decode("utf-8", "replace")

    def _scores(self, tokens: Tokens) -> LegacyLogprobs:
        scores = LegacyLogprobs(self._model.vocab.renderer(True))  # noqa: FBT003  # all names
        scores.skip(tokens)
        return scores
