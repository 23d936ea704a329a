"""Training samples from documents, prompt-answer pairs and conversations, encoded like prompts in evaluation."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from jmedllm.corpus.documents import Document
from jmedllm.errors import InputError
from jmedllm.models.chat import ChatTemplate
from jmedllm.models.tokenizer.encoding import (
    Tokenizer,
    common_length,
    encode,
    encode_pairs,
    encode_with_offsets,
)
from jmedllm.training.packing import TrainingSample

_BATCH = 256


def document_samples(tokenizer: Tokenizer, documents: Iterable[Document]) -> Iterator[TrainingSample]:
    """Yield each document with its EOS; every token except the first is trained."""
    batch: list[Document] = []
    for document in documents:
        batch.append(document)
        if len(batch) == _BATCH:
            yield from _document_batch(tokenizer, batch)
            batch = []
    yield from _document_batch(tokenizer, batch)


def _document_batch(tokenizer: Tokenizer, documents: Sequence[Document]) -> Iterator[TrainingSample]:
    encoded = encode(tokenizer, [document.text for document in documents])
    for document, ids in zip(documents, encoded, strict=True):
        if ids:
            yield TrainingSample(document.id, [*ids, tokenizer.eos_token_id], [False] + [True] * len(ids))


def example_sample(tokenizer: Tokenizer, name: str, prompt: str, answer: str, closing: str = "") -> TrainingSample:
    """Encode a prompt with its answer and the end of the answer; only answer and end are trained.

    Args:
        closing: text that the chat template writes after an answer, for chat prompts; EOS follows unless it already
            ends with EOS.
    """
    return next(example_samples(tokenizer, [(name, prompt, answer)], closing))


def example_samples(
    tokenizer: Tokenizer, examples: Iterable[tuple[str, str, str]], closing: str = ""
) -> Iterator[TrainingSample]:
    """Yield `example_sample` of each name, prompt and answer; encoding many at once is faster."""
    left = iter(examples)
    while batch := list(islice(left, _BATCH)):
        encoded = encode_pairs(tokenizer, [(prompt, answer + closing) for _, prompt, answer in batch])
        for (name, _, _), (shared, rest) in zip(batch, encoded, strict=True):
            end = [tokenizer.eos_token_id] if not closing or rest[-1:] != [tokenizer.eos_token_id] else []
            yield TrainingSample(name, [*shared, *rest, *end], [False] * len(shared) + [True] * len([*rest, *end]))


@dataclass(frozen=True, slots=True)
class LengthLimits:
    """Maximum numbers of tokens of an example; None disables a limit.

    Attributes:
        source: untrained tokens, which are the prompt.
        target: trained tokens, which are the answer with its EOS.
        block: both together, because an example is never split.
    """

    source: int | None
    target: int | None
    block: int

    @property
    def least(self) -> int:
        """Number of tokens up to which an example is certainly within all limits."""
        return min(most for most in (self.source, self.target, self.block) if most is not None)

    def excess(self, sample: TrainingSample) -> str | None:
        """Describe the exceeded limit of a sample; None if it is within all limits."""
        target = sum(sample.loss_mask)
        checks = (
            ("prompt", len(sample.ids) - target, "max_prompt_tokens", self.source),
            ("answer", target, "max_completion_tokens", self.target),
            ("prompt and answer", len(sample.ids), "block_size", self.block),
        )
        for what, tokens, setting, most in checks:
            if most is not None and tokens > most:
                return f"{what} of {tokens:,} tokens, more than {setting} {most:,}"
        return None


ExcessLength = Literal["raise", "drop"]


def filter_by_length(
    samples: Iterable[TrainingSample], limits: LengthLimits, excess_length_strategy: ExcessLength
) -> Iterator[TrainingSample]:
    """Yield the samples within the limits, in their order.

    Raises:
        InputError: one exceeds a limit and `excess_length_strategy` is "raise" (the message names it), or all do.
    """
    kept, excess = 0, ""
    for sample in samples:
        found = limits.excess(sample)
        if found is None:
            kept += 1
            yield sample
            continue
        excess = f"example {sample.name}: {found}"
        if excess_length_strategy == "raise":
            raise InputError(f"{excess}; raise it, leave the example out, or set excess_length_strategy: drop")
    if excess and not kept:
        raise InputError(f"{excess}; every example is too long: raise the limits")


def split_document(sample: TrainingSample, block_size: int) -> Iterator[TrainingSample]:
    """Split a document into parts that fit into a row, as in pretraining.

    Each part starts with the last token of the previous one, so each token except the document's first is predicted
    once.
    """
    for start in range(0, len(sample.ids) - 1, block_size - 1):
        part = slice(start, start + block_size)
        yield TrainingSample(sample.name, sample.ids[part], [False, *sample.loss_mask[part][1:]])


Messages = Sequence[dict[str, str]]

_PLACEHOLDERS = ("\ue000", "\ue001", "\ue002")
"""Private-use characters; of three, one differs from any given first and last character."""

_SHOWN = 40
"""Number of characters that are shown on each side of the first difference."""


def conversation_samples(template: ChatTemplate, name: str, messages: Messages) -> list[TrainingSample]:
    """Render a conversation through the model's template, and train the assistant's messages, the end of each of its
    turns, and EOS.

    Each turn of the assistant is trained after exactly the text that precedes it in an evaluation. Some templates
    write a turn differently if other turns follow, for example an empty thought only before the last one. Such a turn
    is trained in a separate sample, which ends with it.

    The method makes no assumptions about the template. The contribution of a message is the text that changes when the
    message is replaced, and the end of its turn is the text that the template writes after it as the last message.
    Text after the last trained token is left out, and EOS is appended unless it is that token.

    Raises:
        InputError: the tokenizer has no template or no offsets; or the template refuses the conversation, rewrites
            the assistant's words or writes another text before them than before an answer in an evaluation;
            `name` is named.
    """
    if not template.tokenizer.chat_template:
        raise InputError(
            f"{name}: a conversation, but the model's tokenizer has no chat template; give instruction and output"
        )
    turns = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
    together = [index for index in turns if _differing(template, name, messages, index) is None]
    samples = []
    for index in turns:
        alone = messages[: index + 1]
        if index not in together:
            _require_same_prompt(template, name, alone)
            samples.append(_sample(template, name, alone, [index]))
        elif index == together[-1]:
            samples.append(_sample(template, name, messages, together))
    return samples


def _sample(template: ChatTemplate, name: str, messages: Messages, turns: Sequence[int]) -> TrainingSample:
    """Build the sample in which these turns are trained, up to the end of the last of them."""
    tokenizer = template.tokenizer
    text = _render(template, name, messages)
    ids, offsets = encode_with_offsets(tokenizer, text)
    loss_mask = [False] * len(ids)
    markers = set(tokenizer.added_tokens_decoder)
    for index in turns:
        start, end = _written(template, name, messages, index)
        alone = messages[: index + 1]
        closing = _render(template, name, alone)[_written(template, name, alone, index)[1] :]
        stop = end + len(closing[: common_length(closing, text[end:])].rstrip())
        for place, (left, right) in enumerate(offsets):
            loss_mask[place] |= left < stop and right > start
            if left >= end and right <= stop and left < right and ids[place] in markers:
                break
    last = max((place for place, wanted in enumerate(loss_mask) if wanted), default=-1)
    ids, loss_mask = ids[: last + 1], loss_mask[: last + 1]
    if last >= 0 and ids[-1] != tokenizer.eos_token_id:
        ids, loss_mask = [*ids, tokenizer.eos_token_id], [*loss_mask, True]
    return TrainingSample(name, ids, loss_mask)


def _require_same_prompt(template: ChatTemplate, name: str, messages: Messages) -> None:
    """Check that the last message is trained after the same text as in an evaluation.

    Raises:
        InputError: the texts differ; the message shows both around the first difference, without message contents.
    """
    index = len(messages) - 1
    if _differing(template, name, messages, index) is None:
        return
    unsaid = [message | {"content": "…"} for message in messages]
    texts = _differing(template, name, unsaid, index)
    shown = f": {texts[0]!r} in training, {texts[1]!r} in an evaluation" if texts else ""
    raise InputError(
        f"{name}: message {index + 1}: the chat template writes another text before the assistant's words in "
        f"training than in an evaluation{shown}; set prompt.thinking: off so that both agree, or "
        "give instruction and output with prompt.chat"
    )


def _differing(template: ChatTemplate, name: str, messages: Messages, index: int) -> tuple[str, str] | None:
    """Return the texts before message `index` in the whole conversation and in an evaluation, around the first
    difference; None if they are equal.

    Trailing spaces are ignored, because prompts never have them, see `Request.text`. Messages of the assistant before
    any user message are ignored, because no evaluation asks for them.
    """
    if all(message["role"] != "user" for message in messages[:index]):
        return None
    trained = _render(template, name, messages)[: _written(template, name, messages, index)[0]].rstrip(" ")
    with _named(name):
        asked = template.prompt(messages[:index]).rstrip(" ")
    if trained == asked:
        return None
    place = common_length(trained, asked)
    part = slice(max(0, place - _SHOWN), place + _SHOWN)
    return trained[part], asked[part]


def _render(template: ChatTemplate, name: str, messages: Messages) -> str:
    with _named(name):
        return template.conversation(messages)


@contextmanager
def _named(name: str) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        raise InputError(f"{name}: {error}") from error


def _written(template: ChatTemplate, name: str, messages: Messages, index: int) -> tuple[int, int]:
    """Return start and end of the contribution of message `index` to the text of the conversation."""
    words = messages[index]["content"].strip()
    placeholder = next(each for each in _PLACEHOLDERS if each not in (words[0], words[-1]))
    other = [dict(message) for message in messages]
    other[index]["content"] = placeholder
    text, changed = _render(template, name, messages), _render(template, name, other)
    start = common_length(text, changed)
    room = min(len(text), len(changed)) - start
    end = len(text) - min(room, common_length(text[::-1], changed[::-1]))
    written = text[start:end].strip()
    if not written or written not in words:
        raise InputError(
            f"{name}: message {index + 1}: the model's chat template rewrites the assistant's words; give them as "
            "instruction and output, or use another template"
        )
    return start, end
