"""From a chat job to what the engine gets and what makes the reply. Safe from any thread."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from tasks.contract import Job
from tasks.errors import BadRequestError
from worker.chat.dialect import Dialect
from worker.chat.output import OutputParser
from worker.chat.parsed_reply import ParsedReply
from worker.chat.reply import ChatReply
from worker.chat.request import parse_chat
from worker.chat.template import ChatTemplate
from worker.engine.api import GenerationRequest
from worker.engine.text import TextAssembler


class Vocabulary(Protocol):
    bos: int
    adds_bos: bool


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
    def piece(self, token: int) -> bytes: ...
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
        )
        parser = self._dialect.parser(text, chat.offered, job.job_id)
        if parser is None:
            return Generation(request, ChatReply(job))
        self._restore(parser, request)
        return Generation(request, ParsedReply(job, parser))

    def _tokens(self, text: str) -> tuple[int, ...]:
        """With exactly one BOS where the model wants one, whether or not its template writes it."""
        tokens = self._model.tokenize(text, add_special=False, parse_special=True)
        vocab = self._model.vocab
        if vocab.adds_bos and vocab.bos >= 0 and tokens[:1] != [vocab.bos]:
            tokens.insert(0, vocab.bos)
        return tuple(tokens)

    def _restore(self, parser: OutputParser, request: GenerationRequest) -> None:
        """Bring the parser to where an earlier attempt's stood: what it makes of those tokens was delivered."""
        text = TextAssembler(request.stop)
        unseen = 0
        for token in request.resume:
            shown = text.push(self._model.piece(token))
            unseen += 1
            if shown:
                parser.feed(shown, unseen)
                unseen = 0
        parser.feed("", unseen)
