"""From a chat job to what the engine gets and what makes the reply. Safe from any thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from tasks.contract import Job
from tasks.errors import BadRequestError
from worker.backends.grammars import Grammars, Tokens
from worker.chat.dialect import Dialect
from worker.chat.notices import NO_PROMISE, Promise
from worker.chat.output import OutputParser
from worker.chat.parsed_reply import ParsedReply
from worker.chat.reply import ChatReply
from worker.chat.request import ChatRequest, parse_chat
from worker.chat.shape import shape_of
from worker.chat.template import ChatTemplate
from worker.engine.api import GenerationRequest
from worker.engine.text import TextAssembler


class Vocabulary(Tokens, Protocol):
    bos: int
    adds_bos: bool

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
    """One job, ready to run: the engine's request, and the reply that its outputs go through."""

    request: GenerationRequest
    reply: ChatReply


class Preparer:
    """One model's. Raises WorkerError(`model_load_failed`) when the model's chat template is broken."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._template = ChatTemplate(model.chat_template, bos_text=model.bos_text, eos_text=model.eos_text)
        self._dialect = Dialect.of(self._template.source, model.metadata.get("general.architecture", ""))
        self._grammars = Grammars(model.vocab, self._dialect.markers)

    def prepare(self, job: Job, ctx_limit: int) -> Generation:
        """Raises BadRequestError."""
        chat = parse_chat(job.body)
        text = self._template.render(chat.messages, tools=chat.tools, extra=chat.template_args)
        prompt = self._tokens(text)
        if len(prompt) >= ctx_limit:
            raise BadRequestError(
                f"the messages make {len(prompt)} tokens, and the context of {job.model} holds {ctx_limit} tokens, "
                "prompt and reply together; shorten the messages",
                code="context_length_exceeded",
                param="messages",
            )
        shape = shape_of(job.body, chat, self._dialect, text, token_id=self._token_id)
        parser = self._dialect.parser(text, chat.offered, job.job_id)
        request = GenerationRequest(
            request_id=f"{job.job_id}:{job.attempt}",  # an older attempt may still be leaving the engine
            prompt=prompt,
            sampling=chat.sampling,
            stop=chat.stop,
            max_tokens=chat.max_tokens,
            min_tokens=chat.min_tokens,
            ignore_eos=chat.ignore_eos,
            cache_prompt=chat.cache_prompt,
            resume=job.resume.token_ids if job.resume and job.stream else (),  # else nothing was delivered
            special=self._special(chat) if parser else frozenset(),
            masker=self._grammars.constraint(shape.grammar) if shape else None,
        )
        return Generation(request, self._reply(job, request, parser, shape.promise if shape else NO_PROMISE))

    def _reply(
        self, job: Job, request: GenerationRequest, parser: OutputParser | None, promise: Promise
    ) -> ChatReply:
        if parser is None:
            return ChatReply(job, promise)
        self._restore(parser, request)
        return ParsedReply(job, parser, promise)

    def _special(self, chat: ChatRequest) -> frozenset[int]:
        """Ids of the markers that the reply's parser has to see."""
        ids = {self._token_id(marker) for marker in self._dialect.markers_for(chat.offered)}
        return frozenset(token for token in ids if token is not None)

    def _token_id(self, text: str) -> int | None:
        """The token with exactly this text, if there is one."""
        tokens = self._model.tokenize(text, add_special=False, parse_special=True)
        return tokens[0] if len(tokens) == 1 else None

    def _tokens(self, text: str) -> tuple[int, ...]:
        """With exactly one BOS where the model wants one, whether or not its template writes it."""
        tokens = self._model.tokenize(text, add_special=False, parse_special=True)
        vocab = self._model.vocab
        if vocab.adds_bos and vocab.bos >= 0 and tokens[:1] != [vocab.bos]:
            tokens.insert(0, vocab.bos)
        return tuple(tokens)

    def _restore(self, parser: OutputParser, request: GenerationRequest) -> None:
        """Bring the parser to where an earlier attempt's stood: what it makes of those tokens was delivered."""
        if not request.resume:
            return
        piece = self._model.vocab.renderer(request.special)
        text = TextAssembler(request.stop)
        unseen = 0
        for token in request.resume:
            shown = text.push(piece(token))
            unseen += 1
            if shown:
                parser.feed(shown, unseen)
                unseen = 0
        parser.feed("", unseen)
