"""From a job to what the engine gets and what makes the reply. Safe from any thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from tasks.contract import Job, Usage
from tasks.errors import BadRequestError
from worker.backends.grammars import Tokens
from worker.engine.api import GenerationRequest, SamplingParams, StepOutput, TokenMasker
from worker.engine.vocab import Fill
from worker.generate.biases import resolved
from worker.generate.reply import TextReply
from worker.generate.request import TextRequest
from worker.generate.resumption import Delivered, unpack


class Vocabulary(Tokens, Protocol):
    bos: int
    adds_bos: bool
    fill: Fill | None

    def renderer(self, special: bool | frozenset[int]) -> Callable[[int], bytes]: ...  # noqa: FBT001  # as in the engine


class Model(Protocol):
    """What is needed of `worker.engine.model.LoadedModel`."""

    @property
    def vocab(self) -> Vocabulary: ...
    @property
    def bos_text(self) -> str: ...
    @property
    def eos_text(self) -> str: ...
    @property
    def chat_template(self) -> str | None: ...
    @property
    def metadata(self) -> Mapping[str, str]: ...
    def tokenize(self, text: str, *, add_special: bool = True, parse_special: bool = False) -> list[int]: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Generation:
    """One job, ready to run: the engine's requests, and the reply that their outputs go through.

    The choices of a request come after those of the requests before it.
    """

    requests: tuple[GenerationRequest, ...]
    reply: TextReply


class Gathering:
    """Makes the outputs of a job's requests those of one: choices numbered through, one usage, at the very end."""

    def __init__(self, requests: tuple[GenerationRequest, ...]) -> None:
        self._first: dict[str, int] = {}
        self._single = len(requests) == 1
        self._left = len(requests)
        self._usage = Usage()
        count = 0
        for request in requests:
            self._first[request.request_id] = count
            count += request.n

    def take(self, output: StepOutput) -> StepOutput:
        if self._single:
            return output
        first = self._first[output.request_id]
        if output.usage is None:
            return replace(output, index=first + output.index)
        self._left -= 1
        self._usage = _sum(self._usage, output.usage)
        return replace(output, index=first + output.index, usage=None if self._left else self._usage)


def delivered(job: Job, choices: int) -> Delivered:
    """What an earlier attempt delivered; nothing of a reply that does not stream."""
    numbers = job.resume.token_ids if job.resume and job.stream else ()
    return unpack(numbers, choices)


def sampling_for(asked: TextRequest, model: Model) -> SamplingParams:
    """With the biases, whose texts become tokens as plain text does."""
    if not asked.biases:
        return asked.sampling
    biases = resolved(asked.biases, lambda text: model.tokenize(text, add_special=False))
    return replace(asked.sampling, logit_bias=biases)


def request_of(
    job: Job,
    asked: TextRequest,
    prompt: tuple[int, ...],
    got: Delivered,
    *,
    sampling: SamplingParams,
    number: int = 0,
    special: frozenset[int] = frozenset(),
    masker: TokenMasker | None = None,
) -> GenerationRequest:
    """The engine's request of the job's prompt `number`; `got` is that of all its prompts' choices."""
    name = f"{job.job_id}:{job.attempt}"  # an older attempt may still be leaving the engine
    resume, *resume_others = (got.of(number * asked.n + index) for index in range(asked.n))
    return GenerationRequest(
        request_id=f"{name}:{number}" if number else name,
        prompt=prompt,
        sampling=sampling,
        stop=asked.stop,
        max_tokens=asked.max_tokens,
        min_tokens=asked.min_tokens,
        ignore_eos=asked.ignore_eos,
        cache_prompt=asked.cache_prompt,
        resume=resume,
        resume_others=tuple(resume_others),
        n=asked.n,
        logprobs=asked.logprobs,
        special=special,
        masker=masker,
    )


def with_bos(tokens: list[int], vocab: Vocabulary) -> tuple[int, ...]:
    """With exactly one BOS where the model wants one, whether or not the text wrote it."""
    if vocab.adds_bos and vocab.bos >= 0 and tokens[:1] != [vocab.bos]:
        tokens.insert(0, vocab.bos)
    return tuple(tokens)


def check_room(tokens: int, job: Job, ctx_limit: int, *, what: str, param: str) -> None:
    """Raises BadRequestError `context_length_exceeded` when a prompt leaves no room for a reply."""
    if tokens >= ctx_limit:
        raise BadRequestError(
            f"the {what} make {tokens} tokens, and the context of {job.model} holds {ctx_limit} tokens, "
            f"prompt and reply together; shorten the {what}",
            code="context_length_exceeded",
            param=param,
        )


def _sum(one: Usage, other: Usage) -> Usage:
    return Usage(
        prompt_tokens=one.prompt_tokens + other.prompt_tokens,
        completion_tokens=one.completion_tokens + other.completion_tokens,
        cached_tokens=one.cached_tokens + other.cached_tokens,
    )
