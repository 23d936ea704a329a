"""Serves a model directory with transformers, in a thread that continues all answers together."""

import asyncio
import secrets
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

import torch

from jmedllm.errors import InputError, is_out_of_memory
from jmedllm.models.backends.base import Decoding
from jmedllm.models.backends.transformers.live import LiveBatch
from jmedllm.models.backends.transformers.model import TransformersModel, load_model
from jmedllm.models.backends.transformers.replies import Reply
from jmedllm.models.backends.transformers.sampling import draw, next_tokens
from jmedllm.models.tokenizer.stream import token_bytes
from jmedllm.precision import choose_precision
from jmedllm.serving.backends.directory_text import AnswerText, DirectoryText
from jmedllm.serving.model import (
    FinishReason,
    Format,
    Listed,
    Piece,
    Sampling,
    ServeOptions,
    TokenLogprob,
    Unavailable,
    context_of,
)
from jmedllm.serving.threads import usable_cores

_Found = TypeVar("_Found")

_NO_MEMORY = "no memory is left for this answer; shorten it, or start the server with fewer --slots or less --context"

_LOST = "the model failed during this answer, which is lost"


@dataclass(slots=True)
class _Answer:
    """An answer that is being written.

    Attributes:
        reply: its tokens.
        text: their text.
        put: hands a piece, or an error, to whoever waits for it.
        cancelled: set when nobody waits anymore.
    """

    reply: Reply
    sampling: Sampling
    text: AnswerText
    put: Callable[[Piece | Unavailable], None]
    cancelled: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True, slots=True)
class _Call:
    """A function to run between two tokens, and what takes its result or an error."""

    compute: Callable[[], Any]
    settle: Callable[[Any, Unavailable | None], None]

    def put(self, error: Unavailable) -> None:
        """Return an error instead of a result."""
        self.settle(None, error)


@dataclass
class TransformersServed:
    """A model directory in this process.

    Attributes:
        model: the loaded model.
        text: its texts.
        report: prints a line for the person who runs the server.
        name, context, slots, format, failed, backend: see `ServedModel`.
    """

    model: TransformersModel
    text: DirectoryText
    context: int
    slots: int
    format: Format
    report: Callable[[str], None]
    backend: str = "transformers"
    failed: asyncio.Event = field(default_factory=asyncio.Event)
    _inbox: "SimpleQueue[_Answer | _Call | None]" = field(default_factory=SimpleQueue)
    _taking: threading.Lock = field(default_factory=threading.Lock)
    _is_over: bool = False
    _worker: threading.Thread | None = None

    @property
    def name(self) -> str:
        """Name in requests."""
        return self.model.name

    def start(self) -> None:
        """Start the thread that computes."""
        loop = asyncio.get_running_loop()
        self._worker = threading.Thread(target=self._work, args=(loop,), name="transformers", daemon=True)
        self._worker.start()

    async def tokenize(self, text: str, *, add_special: bool = False) -> list[int]:
        """See `ServedModel`."""
        return await self.text.tokenize(text, add_special=add_special)

    async def generate(self, ids: Sequence[int], sampling: Sampling) -> AsyncGenerator[Piece, None]:
        """See `ServedModel`."""
        loop, pieces = asyncio.get_running_loop(), asyncio.Queue[Piece | Unavailable]()
        answer = _Answer(
            Reply(list(ids), secrets.randbits(32) if sampling.seed is None else sampling.seed),
            sampling,
            self.text.answer(sampling),
            lambda piece: _call_soon(loop, pieces.put_nowait, piece),
        )
        self._submit(answer)
        try:
            while True:
                piece = await pieces.get()
                if isinstance(piece, Unavailable):
                    raise piece
                yield piece
                if piece.finish_reason is not None:
                    return
        finally:
            answer.cancelled.set()

    async def score(self, ids: Sequence[int], continuations: Sequence[Sequence[int]]) -> list[float]:
        """See `ServedModel`."""
        return await self._computed(lambda: LiveBatch(self.model.network, self.context).score(ids, continuations))

    async def _computed(self, compute: Callable[[], _Found]) -> _Found:
        """Run a function in the thread that computes."""
        loop = asyncio.get_running_loop()
        result: asyncio.Future[_Found] = loop.create_future()

        def settle(found: Any, error: Unavailable | None) -> None:
            _call_soon(loop, _settle, result, found, error)

        self._submit(_Call(compute, settle))
        return await result

    def _submit(self, work: "_Answer | _Call") -> None:
        with self._taking:
            if self._is_over:
                raise Unavailable("the model failed; start the server again")
            self._inbox.put(work)

    async def close(self) -> None:
        """See `ServedModel`."""
        if self._worker is not None:
            self._inbox.put(None)
            await asyncio.to_thread(self._worker.join)

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        """Compute until the end. An error that is a bug is reported, and no work is left waiting."""
        answers: list[_Answer] = []
        try:
            self._compute(answers)
        except Exception as error:
            self.report(f"transformers failed: {type(error).__name__}: {error}")
            _call_soon(loop, self.failed.set)
            raise
        finally:
            with self._taking:  # nothing comes after this
                self._is_over = True
            waiting: list[_Answer | _Call] = [*answers]
            while not self._inbox.empty():
                waiting += [work for work in [self._inbox.get()] if work is not None]
            for work in waiting:
                work.put(Unavailable(_LOST))

    def _compute(self, answers: list[_Answer]) -> None:
        """Begin answers as they come and continue all by a token, until None comes.

        Args:
            answers: the answers that are being written; changed in place.
        """
        batch = LiveBatch(self.model.network, self.context)
        while True:
            while not (self._inbox.empty() and answers):
                work = self._inbox.get()
                if work is None:
                    return
                if isinstance(work, _Call):
                    _run(work)
                    continue
                answers.append(work)
                if not _within_memory([work], self._begin, batch, work):
                    answers.remove(work)
                _drop_ended(batch, answers)
            if not _within_memory(answers, self._step, batch, answers):
                batch = LiveBatch(self.model.network, self.context)
                answers.clear()
            _drop_ended(batch, answers)

    def _begin(self, batch: LiveBatch, answer: _Answer) -> None:
        logits, keys = batch.read(answer.reply.prompt)
        self._extend(answer, logits)
        if answer.reply.finish_reason is None:
            batch.add(answer.reply, keys)

    def _step(self, batch: LiveBatch, answers: Sequence[_Answer]) -> None:
        by_reply = {id(answer.reply): answer for answer in answers}
        for reply, logits in zip(batch.replies, batch.step(), strict=True):
            self._extend(by_reply[id(reply)], logits)

    def _extend(self, answer: _Answer, logits: torch.Tensor) -> None:
        """Add a token to an answer, from the logits [vocabulary]."""
        reply, sampling = answer.reply, answer.sampling
        decoding = Decoding(
            sampling.temperature, sampling.top_p, sampling.top_k, sampling.min_p, sampling.repetition_penalty
        )
        drawn = [draw(reply.seed, len(reply.written))]
        [token] = next_tokens(decoding, logits[None], [reply.tokens], drawn)
        reply.written.append(token)
        finish: FinishReason | None = "length" if len(reply.written) >= sampling.max_tokens else None
        if self.model.ends.reached(self.model.tokenizer, reply.written):
            finish = "stop"
        reply.finish_reason = finish
        text = answer.text.feed(token, is_last=finish is not None)
        answer.put(Piece(text, 1, self._listed(token, logits, sampling.top_logprobs), finish))

    def _listed(self, token: int, logits: torch.Tensor, count: int | None) -> tuple[Listed, ...]:
        if count is None:
            return ()
        log_probs = logits.float().log_softmax(-1)
        values, ids = log_probs.topk(count)
        likeliest = zip(ids.tolist(), values.tolist(), strict=True)
        top = tuple(TokenLogprob(each, token_bytes(self.model.tokenizer, each), value) for each, value in likeliest)
        own = TokenLogprob(token, token_bytes(self.model.tokenizer, token), float(log_probs[token]))
        return (Listed(own, top),)


def _within_memory(lost: Sequence[_Answer], compute: Callable[..., None], *arguments: object) -> bool:
    """Call a function and return whether memory sufficed; otherwise these answers are lost."""
    try:
        compute(*arguments)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        for answer in lost:
            answer.put(Unavailable(_NO_MEMORY))
        return False
    return True


def _run(call: _Call) -> None:
    """Run a function; whoever waits for it also gets an error."""
    try:
        found = call.compute()
    except Exception as error:
        call.put(Unavailable(_NO_MEMORY if is_out_of_memory(error) else _LOST))
        if not is_out_of_memory(error):
            raise
    else:
        call.settle(found, None)


def _drop_ended(batch: LiveBatch, answers: list[_Answer]) -> None:
    """Remove answers that have ended or that nobody waits for."""
    answers[:] = [each for each in answers if each.reply.finish_reason is None and not each.cancelled.is_set()]
    batch.keep([each.reply for each in answers])


def _call_soon(loop: asyncio.AbstractEventLoop, call: Callable[..., object], *arguments: object) -> None:
    """Call a function in the event loop; after its end, nobody waits for it."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(call, *arguments)


def _settle(result: "asyncio.Future[_Found]", found: _Found, error: Unavailable | None) -> None:
    if result.done():  # whoever asked has left
        return
    if error is None:
        result.set_result(found)
    else:
        result.set_exception(error)


async def open_transformers(folder: Path, options: ServeOptions) -> TransformersServed:
    """Load a model directory.

    Raises:
        InputError: it cannot be loaded, its context is shorter, or the caches of its architecture cannot be joined.
    """
    precision = choose_precision("auto", "auto", options.threads or usable_cores())
    model = await asyncio.to_thread(load_model, folder.resolve(), precision, name=options.name)
    capabilities = model.capabilities
    if not capabilities.joining:
        raise InputError(
            f"{folder}: answers of {model.network.config.model_type} cannot be continued together by transformers; "
            "install vLLM, or export the model with jmedllm deploy gguf"
        )
    longest = model.context if capabilities.padding else min(model.context, capabilities.longest_tree)
    text = DirectoryText(model.tokenizer, model.ends)
    served = TransformersServed(
        model=model,
        text=text,
        context=context_of(options, longest, folder),
        slots=options.slots,
        format=text.format,
        report=options.report,
    )
    served.start()
    return served
