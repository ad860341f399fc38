"""From a chat job to what the engine gets and what makes the reply. Safe from any thread."""

from __future__ import annotations

from tasks.contract import Job
from worker.backends.generation import Generation, Model, check_room, delivered, request_of, sampling_for, with_bos
from worker.backends.grammars import Grammars
from worker.chat.dialect import Dialect
from worker.chat.notices import NO_PROMISE
from worker.chat.output import OutputParser
from worker.chat.reply import ChatReply
from worker.chat.request import ChatRequest, parse_chat
from worker.chat.shape import shape_of
from worker.chat.teaching import taught
from worker.chat.template import ChatTemplate
from worker.engine.api import GenerationRequest
from worker.engine.text import TextAssembler
from worker.generate.choice import Choice
from worker.generate.resumption import Delivered


class Chats:
    """One model's. Raises WorkerError(`model_load_failed`) when the model's chat template is broken."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._template = ChatTemplate(model.chat_template, bos_text=model.bos_text, eos_text=model.eos_text)
        self._dialect = Dialect.of(self._template.source, model.metadata.get("general.architecture", ""))
        self._grammars = Grammars(model.vocab, self._dialect.markers)

    def prepare(self, job: Job, ctx_limit: int) -> Generation:
        """Raises BadRequestError."""
        chat = parse_chat(job.body)
        text = self._rendered(chat)
        prompt = with_bos(self._model.tokenize(text, add_special=False, parse_special=True), self._model.vocab)
        check_room(len(prompt), job, ctx_limit, what="messages", param="messages")
        shape = shape_of(job.body, chat, self._dialect, text, token_id=self._token_id)
        got = delivered(job, chat.n)
        request = request_of(
            job,
            chat,
            prompt,
            got,
            sampling=sampling_for(chat, self._model),
            special=self._special(chat),
            masker=self._grammars.constraint(shape.grammar) if shape else None,
        )
        parsers = [
            self._dialect.parser(text, chat.offered, _call_seed(job, index), closed=chat.restricted)
            for index in range(chat.n)
        ]
        choices = [self._choice(index, parser, request, got) for index, parser in enumerate(parsers)]
        pieces_of = None if chat.logprobs is None else self._model.vocab.renderer(True)  # noqa: FBT003  # all names
        promise = shape.promise if shape else NO_PROMISE
        return Generation((request,), ChatReply(job, choices, promise=promise, pieces_of=pieces_of))

    def _rendered(self, chat: ChatRequest) -> str:
        if self._template.reads_tools:
            return self._template.render(chat.messages, tools=chat.tools, extra=chat.template_args)
        messages = taught(chat.messages, chat.tools, self._dialect.family)
        return self._template.render(messages, extra=chat.template_args)

    def _choice(self, index: int, parser: OutputParser | None, request: GenerationRequest, got: Delivered) -> Choice:
        tokens = got.of(index)
        if parser is not None and tokens:
            self._restore(parser, request, tokens)
        return Choice(index, parser, resumed=bool(tokens), told=index in got.ended)

    def _special(self, chat: ChatRequest) -> frozenset[int]:
        """Ids of the markers that the reply's parser has to see."""
        ids = {self._token_id(marker) for marker in self._dialect.markers_for(chat.offered)}
        return frozenset(token for token in ids if token is not None)

    def _token_id(self, text: str) -> int | None:
        """The token with exactly this text, if there is one."""
        tokens = self._model.tokenize(text, add_special=False, parse_special=True)
        return tokens[0] if len(tokens) == 1 else None

    def _restore(self, parser: OutputParser, request: GenerationRequest, tokens: tuple[int, ...]) -> None:
        """Bring the parser to where an earlier attempt's stood: what it makes of those tokens was delivered."""
        piece = self._model.vocab.renderer(request.special)
        text = TextAssembler(request.stop)
        unseen = 0
        for token in tokens:
            shown = text.push(piece(token))
            unseen += 1
            if shown:
                parser.feed(shown, unseen)
                unseen = 0
        parser.feed("", unseen)


def _call_seed(job: Job, index: int) -> str:
    """Ids of calls are made from it: the same in each attempt, others in each choice."""
    return f"{job.job_id}:{index}" if index else job.job_id
