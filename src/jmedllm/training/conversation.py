"""Conversations as training samples: what the assistant wrote is trained, whatever the chat template."""

from collections.abc import Sequence

from jmedllm.corpus.pack import Sample
from jmedllm.errors import InputError
from jmedllm.models.encoding import Tokenizer, common_length, encode_with_offsets

Messages = Sequence[dict[str, str]]

_STAND_INS = ("\ue000", "\ue001", "\ue002")
"""Private characters; of three, one differs from any first and any last character."""


def conversation_sample(tokenizer: Tokenizer, name: str, messages: Messages) -> Sample:
    """A conversation through the model's template; the assistant's words, the end of each of its turns and
    EOS are trained.

    Nothing is assumed of the template. What one message contributes is what changes when that message is
    replaced, and what ends its turn is what the template writes behind it as the last message. What follows the
    last trained token is left out; EOS follows instead, if it is not that token.

    Raises:
        InputError: the tokenizer has no template or no offsets, or the template refuses the conversation or
            rewrites the assistant's words; `name` is named.
    """
    text = _render(tokenizer, name, messages)
    ids, offsets = encode_with_offsets(tokenizer, text)
    trained = [False] * len(ids)
    markers = set(tokenizer.added_tokens_decoder)
    for index, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        start, end = _written(tokenizer, name, messages, index)
        alone = messages[: index + 1]
        closing = _render(tokenizer, name, alone)[_written(tokenizer, name, alone, index)[1] :]
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


def _render(tokenizer: Tokenizer, name: str, messages: Messages) -> str:
    from jinja2 import TemplateError

    if not tokenizer.chat_template:
        raise InputError(
            f"{name}: a conversation, but the model's tokenizer has no chat template; give instruction and output"
        )
    try:
        return str(tokenizer.apply_chat_template(list(messages), tokenize=False))
    except TemplateError as error:
        raise InputError(f"{name}: the model's chat template refuses this conversation: {error}") from error


def _written(tokenizer: Tokenizer, name: str, messages: Messages, index: int) -> tuple[int, int]:
    """Start and end of what message `index` contributes to the text of the conversation."""
    words = messages[index]["content"].strip()
    stand_in = next(each for each in _STAND_INS if each not in (words[0], words[-1]))
    other = [dict(message) for message in messages]
    other[index]["content"] = stand_in
    text, changed = _render(tokenizer, name, messages), _render(tokenizer, name, other)
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
