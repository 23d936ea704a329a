"""Encode text as token ids; training and evaluation share these functions, so that they cannot differ."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

Tokenizer = Any  # transformers.PreTrainedTokenizerBase; importing it for the annotation would cost seconds


BATCH = 256
"""Texts to encode at once: enough for all cores, few enough for memory."""


def batches(texts: Iterable[str]) -> Iterator[list[str]]:
    """Yield the texts in order, `BATCH` at a time."""
    left = iter(texts)
    while batch := list(islice(left, BATCH)):
        yield batch


def encode(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Encode each text with the tokenizer's default special tokens.

    A BOS that the text already contains is not added again. An EOS that the tokenizer appends by default is removed,
    because the continuation of a prompt must not follow an end; an EOS that the text contains is kept.
    """
    if not texts:
        return []
    encoded = tokenizer(list(texts), add_special_tokens=True)["input_ids"]
    return [list(ids[kept(tokenizer, text, list(ids))]) for text, ids in zip(texts, encoded, strict=True)]


def most_tokens(tokenizer: Tokenizer, text: str) -> int | None:
    """Return an upper bound of the tokens of a text that is much faster than counting them; None for a slow tokenizer.

    A token stands for at least one byte of the normalized text. Before that, a tokenizer may put one sign for a
    space, also behind each marker token, which has more characters than that; and its special tokens.
    """
    if not tokenizer.is_fast:
        return None
    normalizer = tokenizer.backend_tokenizer.normalizer
    normalized = normalizer.normalize_str(text) if normalizer else text
    added: int = tokenizer.backend_tokenizer.num_special_tokens_to_add(is_pair=False)
    return len(normalized.encode()) + _SPACE + added


_SPACE = len("▁".encode())


def kept(tokenizer: Tokenizer, text: str, ids: list[int]) -> slice:
    """Return the part of a text's tokens, as the tokenizer returns them, that `encode` keeps."""
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    start = 1 if bos is not None and ids[:2] == [bos, bos] else 0
    spelled = [eos] if eos is not None and text.endswith(tokenizer.eos_token) else []
    added = eos is not None and ids[start:][-1 - len(spelled) :] == [*spelled, eos]
    return slice(start, len(ids) - added)


def encode_continuations(
    tokenizer: Tokenizer, prompt: str, continuations: Sequence[str]
) -> tuple[list[int], list[list[int]]]:
    """Encode a prompt jointly with each continuation.

    Returns:
        The ids of the prompt that all continuations share, and for each continuation the ids that follow. Each pair
        concatenated is exactly `encode(prompt + continuation)`. If the tokenizer merges the last characters of the
        prompt with a continuation, the shared prompt is shorter by these.
    """
    alone, *joint = encode(tokenizer, [prompt, *(prompt + text for text in continuations)])
    shared = shared_length(alone, joint)
    return alone[:shared], [ids[shared:] for ids in joint]


def encode_pairs(tokenizer: Tokenizer, pairs: Sequence[tuple[str, str]]) -> list[tuple[list[int], list[int]]]:
    """`encode_continuations` for many prompts at once, each with one continuation."""
    encoded = iter(encode(tokenizer, [text for prompt, rest in pairs for text in (prompt, prompt + rest)]))
    found = []
    for alone, joint in zip(encoded, encoded, strict=True):
        shared = common_length(alone, joint)
        found.append((alone[:shared], joint[shared:]))
    return found


def shared_length(alone: list[int], joint: Sequence[list[int]]) -> int:
    """Return the number of tokens of a prompt, encoded alone, that all its joint encodings share."""
    return min((common_length(alone, ids) for ids in joint), default=len(alone))


def common_length(left: Sequence[object], right: Sequence[object]) -> int:
    """Return the length of the common prefix of two sequences of tokens or characters."""
    for index, (a, b) in enumerate(zip(left, right, strict=False)):
        if a != b:
            return index
    return min(len(left), len(right))


@dataclass(frozen=True, slots=True)
class Spelled:
    """Token ids of labels after a prompt.

    Attributes:
        prompt: ids of the prompt, after which the labels are scored.
        labels: for each label the sequences of ids that spell it; none is a prefix of another.
        is_next_token: whether `prompt` is the whole prompt and each sequence one token.
    """

    prompt: list[int]
    labels: list[list[tuple[int, ...]]]
    is_next_token: bool


def spell_labels(tokenizer: Tokenizer, asked: Sequence[tuple[str, Sequence[str]]]) -> Iterator[Spelled]:
    """Spell labels after each prompt, in the order of the pairs of prompt and labels."""
    for start in range(0, len(asked), _PROMPTS):
        part = asked[start : start + _PROMPTS]
        texts = [_label_texts(*each) for each in part]
        ids = iter(encode(tokenizer, [text for each in texts for text in each]))
        for each, (_, labels) in zip(texts, part, strict=True):
            yield _spelled([next(ids) for _ in each], labels)


_PROMPTS = 64
"""Number of prompts to encode at once with their labels; each is encoded twice for every label."""


def _label_texts(prompt: str, labels: Sequence[str]) -> list[str]:
    """Return the prompt, then the prompt with each spelling of each label: alone, and after a space."""
    prompt = prompt.rstrip(" ")
    return [prompt, *(f"{prompt}{space}{label}" for label in labels for space in ("", " "))]


def _spelled(encoded: Sequence[list[int]], labels: Sequence[str]) -> Spelled:
    """Spell labels after a prompt, from the ids of `_label_texts`.

    Labels are encoded in context, because a tokenizer may spell a label differently alone: SentencePiece puts a
    space before every text. If each label without a space is one token after the prompt, these tokens are read, and
    also those with a space if they are one token for each label. Otherwise the labels are read as texts, by all
    tokens of both spellings, after the tokens of the prompt that all spellings keep: the last one may merge with a
    label.
    """
    prompt, joint = encoded[0], encoded[1:]
    forms = [joint[place::2] for place in range(2)]
    alone, spaced = (all(ids[:-1] == prompt for ids in form) for form in forms)
    shared = len(prompt) if alone else shared_length(prompt, joint)
    used = forms if spaced or not alone else forms[:1]
    rests = [{tuple(form[place][shared:]) for form in used} for place in range(len(labels))]
    return Spelled(prompt[:shared], [_apart(each) for each in rests], is_next_token=alone)


def _apart(sequences: Collection[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Return the sequences that have no other one as a prefix, because its probability would include theirs."""
    return sorted(
        ids for ids in sequences if not any(ids != other and ids[: len(other)] == other for other in sequences)
    )
