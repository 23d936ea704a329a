"""Training samples from documents, prompt-answer pairs and conversations, encoded as the evaluation encodes them."""

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
from jmedllm.training.packing import Sample

_BATCH = 256


def document_samples(tokenizer: Tokenizer, documents: Iterable[Document]) -> Iterator[Sample]:
    """Each document with its EOS; every token but the first is trained."""
    batch: list[Document] = []
    for document in documents:
        batch.append(document)
        if len(batch) == _BATCH:
            yield from _document_batch(tokenizer, batch)
            batch = []
    yield from _document_batch(tokenizer, batch)


def _document_batch(tokenizer: Tokenizer, documents: Sequence[Document]) -> Iterator[Sample]:
    encoded = encode(tokenizer, [document.text for document in documents])
    for document, ids in zip(documents, encoded, strict=True):
        if ids:
            yield Sample(document.id, [*ids, tokenizer.eos_token_id], [False] + [True] * len(ids))


def example_sample(tokenizer: Tokenizer, name: str, prompt: str, answer: str, closing: str = "") -> Sample:
    """A prompt with its answer and how that ends; only answer and end are trained.

    Args:
        closing: what the chat template writes behind an answer, where the prompt goes through it; EOS follows, if
            it is not that.
    """
    return next(example_samples(tokenizer, [(name, prompt, answer)], closing))


def example_samples(
    tokenizer: Tokenizer, examples: Iterable[tuple[str, str, str]], closing: str = ""
) -> Iterator[Sample]:
    """`example_sample` for each name, prompt and answer; many together are encoded in less time."""
    left = iter(examples)
    while batch := list(islice(left, _BATCH)):
        encoded = encode_pairs(tokenizer, [(prompt, answer + closing) for _, prompt, answer in batch])
        for (name, _, _), (shared, rest) in zip(batch, encoded, strict=True):
            end = [tokenizer.eos_token_id] if not closing or rest[-1:] != [tokenizer.eos_token_id] else []
            yield Sample(name, [*shared, *rest, *end], [False] * len(shared) + [True] * len([*rest, *end]))


@dataclass(frozen=True, slots=True)
class LengthLimits:
    """Most tokens of an example; None where there is no limit.

    Attributes:
        source: tokens that are not trained, which is the prompt.
        target: tokens that are trained, which is the answer with its EOS.
        block: both together: an example is never cut.
    """

    source: int | None
    target: int | None
    block: int

    @property
    def least(self) -> int:
        """An example of this many tokens is within all limits."""
        return min(most for most in (self.source, self.target, self.block) if most is not None)

    def excess(self, sample: Sample) -> str | None:
        """What is too long about a sample, in words; None where nothing is."""
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
    samples: Iterable[Sample], limits: LengthLimits, excess_length_strategy: ExcessLength
) -> list[Sample]:
    """The samples within the limits, in their order.

    Raises:
        InputError: one is not, and `excess_length_strategy` is "raise" (it is named); or none is.
    """
    kept, excess = [], ""
    for sample in samples:
        found = limits.excess(sample)
        if found is None:
            kept.append(sample)
            continue
        excess = f"example {sample.name}: {found}"
        if excess_length_strategy == "raise":
            raise InputError(f"{excess}; raise it, leave the example out, or set excess_length_strategy: drop")
    if excess and not kept:
        raise InputError(f"{excess}; every example is too long: raise the limits")
    return kept


def split_document(sample: Sample, block_size: int) -> Iterator[Sample]:
    """A document in parts that fit into a row, cut as pretraining cuts it: a part begins with the last token
    of the one before, so that each token but the document's first is predicted once."""
    for start in range(0, len(sample.ids) - 1, block_size - 1):
        part = slice(start, start + block_size)
        yield Sample(sample.name, sample.ids[part], [False, *sample.loss_mask[part][1:]])


Messages = Sequence[dict[str, str]]

_PLACEHOLDERS = ("\ue000", "\ue001", "\ue002")
"""Private characters; of three, one differs from any first and any last character."""

_SHOWN = 40
"""Characters of a difference that are shown on either side of where it begins."""


def conversation_samples(template: ChatTemplate, name: str, messages: Messages) -> list[Sample]:
    """A conversation through the model's template; the assistant's words, the end of each of its turns and
    EOS are trained.

    Each turn of the assistant is trained behind the very text that an evaluation would put before it. Some
    templates write a turn otherwise once others follow it, an empty thought only before the last one for example:
    such a turn is trained in a sample of its own, which ends with it.

    Nothing is assumed of the template. What one message contributes is what changes when that message is
    replaced, and what ends its turn is what the template writes behind it as the last message. What follows the
    last trained token is left out; EOS follows instead, if it is not that token.

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


def _sample(template: ChatTemplate, name: str, messages: Messages, turns: Sequence[int]) -> Sample:
    """The conversation with these turns trained, up to the end of the last of them."""
    tokenizer = template.tokenizer
    text = _render(template, name, messages)
    ids, offsets = encode_with_offsets(tokenizer, text)
    trained = [False] * len(ids)
    markers = set(tokenizer.added_tokens_decoder)
    for index in turns:
        start, end = _written(template, name, messages, index)
        alone = messages[: index + 1]
        closing = _render(template, name, alone)[_written(template, name, alone, index)[1] :]
        stop = end + len(closing[: common_length(closing, text[end:])].rstrip())
        for place, (left, right) in enumerate(offsets):
            trained[place] |= left < stop and right > start
            if left >= end and right <= stop and left < right and ids[place] in markers:
                break
    last = max((place for place, wanted in enumerate(trained) if wanted), default=-1)
    ids, trained = ids[: last + 1], trained[: last + 1]
    if last >= 0 and ids[-1] != tokenizer.eos_token_id:
        ids, trained = [*ids, tokenizer.eos_token_id], [*trained, True]
    return Sample(name, ids, trained)


def _require_same_prompt(template: ChatTemplate, name: str, messages: Messages) -> None:
    """Check that the last message is trained behind the text that an evaluation would put before it.

    Raises:
        InputError: it is not; shows both texts where they begin to differ, without anything that was said.
    """
    index = len(messages) - 1
    if _differing(template, name, messages, index) is None:
        return
    unsaid = [message | {"content": "…"} for message in messages]
    texts = _differing(template, name, unsaid, index)
    presented = f": {texts[0]!r} in training, {texts[1]!r} in an evaluation" if texts else ""
    raise InputError(
        f"{name}: message {index + 1}: the chat template writes another text before the assistant's words in "
        f"training than in an evaluation{presented}; set prompt.chat_template_kwargs so that both agree, such as "
        "{enable_thinking: false}, or give instruction and output with prompt.chat"
    )


def _differing(template: ChatTemplate, name: str, messages: Messages, index: int) -> tuple[str, str] | None:
    """The texts before message `index` as the whole conversation has them and as an evaluation does, around the
    first character that differs; None where they are the same.

    Spaces at their end are no difference: no prompt is given to a model with them, see `Request.text`. What the
    assistant says before anybody asked, no evaluation asks for.
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
    """Start and end of what message `index` contributes to the text of the conversation."""
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
