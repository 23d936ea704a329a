"""From a checked request to the parts of its answer, whatever runs the model."""

import math
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from itertools import takewhile
from random import Random

from jmedllm.errors import InputError
from jmedllm.models.chat_text import RESERVED, render, variables_of
from jmedllm.models.thoughts import Thought
from jmedllm.serving.fields import BadRequest, GenerationRequest
from jmedllm.serving.model import FinishReason, Listed, Piece, Sampling, ServedModel
from jmedllm.serving.stop import StopFinder
from jmedllm.serving.thought import MessageField, Splitter, markers_of, may_think, visible_markers


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt as the model gets it.

    Attributes:
        text: its text; empty for a prompt of token ids.
        ids: its token ids.
        markers: markers of thoughts to separate from the answer; none for a prompt that is no chat.
        thinks: whether the model may think before it answers.
    """

    text: str
    ids: tuple[int, ...]
    markers: tuple[Thought, ...] = ()
    thinks: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the texts that an answer is restricted to.

    Attributes:
        text: the text.
        logprob: the log of its probability among all choices.
    """

    text: str
    logprob: float


@dataclass(frozen=True, slots=True)
class Delta:
    """A part of an answer.

    Attributes:
        part: whether it is thought or answer.
        text: its text.
        listed: its tokens with log-probabilities, if they were requested.
        choices: all choices, the most likely first, if the answer is restricted to choices.
    """

    part: MessageField
    text: str
    listed: tuple[Listed, ...] = ()
    choices: tuple[Choice, ...] = ()


@dataclass
class Usage:
    """Number of tokens so far."""

    prompt: int
    completion: int = 0
    reasoning: int = 0
    finish_reason: FinishReason | None = field(default=None)


async def prompt_of(model: ServedModel, request: GenerationRequest) -> Prompt:
    """Return the prompt of a request.

    Raises:
        BadRequest: see `render_prompt`; or prompt and answer do not fit the context.
    """
    prompt = await render_prompt(model, request)
    length, wanted = len(prompt.ids), request.max_tokens or 1
    if not length:
        raise BadRequest("the prompt has no tokens; write something")
    if length + wanted > model.context:
        raise BadRequest(
            f"the prompt has {length:,} tokens and max_tokens is {wanted:,}; together they exceed the context length "
            f"of {model.context:,} tokens; shorten the messages or lower max_tokens",
            code="context_length_exceeded",
        )
    return prompt


async def render_prompt(model: ServedModel, request: GenerationRequest) -> Prompt:
    """Return the prompt of a request, of any length.

    A model without a chat template gets the texts of the messages, joined with line feeds.

    Raises:
        BadRequest: the template refuses the messages, or the model has no such token id.
    """
    if request.messages is not None:
        return await _chat_prompt(model, request)
    given = request.prompt or ""
    if isinstance(given, str):
        return Prompt(given, tuple(await model.tokenize(given, add_special=True)))
    most = model.format.vocabulary
    if most is not None and (highest := max(given)) >= most:
        raise BadRequest(f"prompt: this model has no token {highest:,}; its ids are 0 to {most - 1:,}", "prompt")
    return Prompt("", given)


_VARIABLES = "chat_template_kwargs"


async def _chat_prompt(model: ServedModel, request: GenerationRequest) -> Prompt:
    messages, template = request.messages or (), model.format.template
    if template is None:
        if request.variables:
            raise BadRequest("chat_template_kwargs: this model has no chat template", _VARIABLES)
        text = "\n".join(message["content"] for message in messages)
        return Prompt(text, tuple(await model.tokenize(text, add_special=True)))
    for name in request.variables:
        if name in RESERVED or not re.search(rf"\b{re.escape(name)}\b", template):
            known = ", ".join(sorted(variables_of(template))) or "none"
            raise BadRequest(
                f"{_VARIABLES}.{name[:100]}: the template reads no such variable; it reads: {known}", _VARIABLES
            )
    try:
        text = render(template, messages, model.format.special, request.variables)
    except InputError as error:
        raise BadRequest(f"messages: {error}", "messages") from error
    markers = markers_of(template)
    return Prompt(text, tuple(await model.tokenize(text)), markers, may_think(template, text, markers))


async def answer(
    model: ServedModel, prompt: Prompt, request: GenerationRequest, usage: Usage
) -> AsyncGenerator[Delta, None]:
    """Yield the parts of an answer, and count its tokens in `usage`.

    Raises:
        BadRequest: the choices do not fit the context.
        Unavailable: the model failed during the answer.
    """
    sampling = Sampling(
        max_tokens=request.max_tokens or model.context - len(prompt.ids),
        top_logprobs=request.logprobs,
        visible=visible_markers(model.format.control, prompt.markers) if prompt.thinks else (),
        **request.sampling,
    )
    parts = (
        _choose(model, prompt, request, sampling, usage)
        if request.choices
        else _write(model, prompt, request.stop, sampling, usage)
    )
    async with aclosing(parts) as found:
        async for delta in found:
            yield delta


async def _write(
    model: ServedModel, prompt: Prompt, stops: Sequence[str], sampling: Sampling, usage: Usage
) -> AsyncGenerator[Delta, None]:
    """Yield an answer. Stop texts end the answer, not the thought."""
    splitter = Splitter(prompt.markers if prompt.thinks else (), prompt.text if prompt.thinks else "")
    stop = StopFinder(stops)
    waiting: tuple[Listed, ...] = ()  # tokens whose text is kept back
    seen, is_begun = 0, False
    async with aclosing(model.generate(prompt.ids, sampling)) as pieces:
        async for piece in pieces:
            _count(piece, splitter, usage)
            parts = list(splitter.feed(piece.text))
            if piece.finish_reason is not None:
                parts += splitter.finish()
            listed = tuple(each for each in piece.listed if each.token.id not in model.format.ends)
            is_marker = splitter.seen != seen and not splitter.answered
            waiting = () if is_marker else (*(waiting if splitter.seen == seen else ()), *listed)
            seen = splitter.seen
            for delta in _deltas(parts, stop, is_last=piece.finish_reason is not None):
                if delta.part == "content":
                    delta = replace(delta, listed=waiting if is_begun else _without_space(waiting, delta.text))
                    is_begun = True
                waiting = ()
                yield delta
            if stop.found:
                usage.finish_reason = "stop"
                return
            if piece.finish_reason is not None and waiting and splitter.part == "content":
                yield Delta("content", "", listed=waiting)  # of a character that is cut
            if splitter.part == "reasoning_content":
                waiting = ()


def _without_space(listed: tuple[Listed, ...], text: str) -> tuple[Listed, ...]:
    """Return the tokens of an answer without those of the space before it, which follows a thought."""
    skipped = takewhile(lambda each: not text[:1].isspace() and not each.token.bytes.strip(), listed)
    return listed[len(list(skipped)) :]


def _count(piece: Piece, splitter: Splitter, usage: Usage) -> None:
    usage.completion += piece.tokens
    usage.reasoning += piece.tokens if splitter.part == "reasoning_content" else 0
    usage.finish_reason = piece.finish_reason


def _deltas(parts: Sequence[tuple[MessageField, str]], stop: StopFinder, *, is_last: bool) -> list[Delta]:
    found = [Delta(part, text if part != "content" else stop.feed(text)) for part, text in parts]
    if is_last and not stop.found:
        found.append(Delta("content", stop.kept))
    return [delta for delta in found if delta.text]


async def _choose(
    model: ServedModel, prompt: Prompt, request: GenerationRequest, sampling: Sampling, usage: Usage
) -> AsyncGenerator[Delta, None]:
    """Yield the thought, if the model thinks, and then one of the choices."""
    begun = ""  # what the model wrote before its answer
    if prompt.thinks:
        splitter = Splitter(prompt.markers, prompt.text)
        written, thought = "", splitter.part == "reasoning_content"
        async with aclosing(model.generate(prompt.ids, replace(sampling, top_logprobs=None))) as pieces:
            async for piece in pieces:
                _count(piece, splitter, usage)
                written += piece.text
                parts = list(splitter.feed(piece.text))
                for part, text in parts:
                    if part == "reasoning_content":
                        yield Delta(part, text)
                thought = thought or splitter.part == "reasoning_content"
                if splitter.answered or piece.finish_reason is not None:
                    break
        if splitter.part == "reasoning_content":  # it ended inside its thought
            return
        answered = "".join(text for part, text in parts if part == "content")
        begun = written[: len(written) - len(answered)] if thought else ""
        usage.completion = usage.reasoning if thought else 0
    choices = await _scored(model, prompt, begun, request.choices)
    chosen = _pick(choices, sampling)
    usage.completion += len(await model.tokenize(chosen.text))
    usage.finish_reason = "stop"
    yield Delta("content", chosen.text, choices=choices)


async def _scored(model: ServedModel, prompt: Prompt, begun: str, texts: Sequence[str]) -> tuple[Choice, ...]:
    """Return all choices with their log-probabilities, normalized over the choices; the most likely first.

    If one choice begins another, the end of the answer is a part of each choice.

    Raises:
        BadRequest: the longest choice does not fit the context.
    """
    ids = await model.tokenize(prompt.text + begun) if begun else list(prompt.ids)
    continuations = [await _continuation(model, prompt.text + begun, ids, text) for text in texts]
    is_prefix = any(a != b and b[: len(a)] == a for a in continuations for b in continuations)
    if is_prefix and model.format.ends:
        continuations = [[*each, model.format.ends[0]] for each in continuations]
    longest = max(map(len, continuations))
    if len(ids) + longest > model.context:
        raise BadRequest(
            f"structured_outputs.choice: the prompt has {len(ids):,} tokens and the longest choice {longest:,}; "
            f"together they exceed the context length of {model.context:,} tokens; shorten the prompt or the choices",
            "structured_outputs",
            "context_length_exceeded",
        )
    scores = await model.score(ids, continuations)
    highest = max(scores)
    total = highest + math.log(sum(math.exp(score - highest) for score in scores))
    found = (Choice(text, score - total) for text, score in zip(texts, scores, strict=True))
    return tuple(sorted(found, key=lambda choice: -choice.logprob))


async def _continuation(model: ServedModel, before: str, ids: list[int], text: str) -> list[int]:
    """Return the ids of a text after a prompt, where the tokenizer may write it differently than alone."""
    whole = await model.tokenize(before + text) if before else []
    return whole[len(ids) :] if whole[: len(ids)] == ids and len(whole) > len(ids) else await model.tokenize(text)


def _pick(choices: Sequence[Choice], sampling: Sampling) -> Choice:
    if sampling.temperature == 0:
        return choices[0]
    weights = [math.exp((each.logprob - choices[0].logprob) / sampling.temperature) for each in choices]
    return Random(sampling.seed).choices(choices, weights)[0]
