"""Completions of local models: stop conditions and decoding."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

from jmedllm.models.backends.base import Completion
from jmedllm.models.chat import ChatTemplate, turn_end
from jmedllm.models.tokenizer.encoding import Tokenizer


@dataclass(frozen=True, slots=True)
class Ends:
    """Stop conditions of a completion; the end is not part of the text.

    Attributes:
        tokens: ids of which each ends a completion.
        text: stop text, for chat templates that end a turn with plain text instead of a token; may be empty.
    """

    tokens: frozenset[int] = field(default_factory=frozenset)
    text: str = ""

    def reached(self, tokenizer: Tokenizer, ids: Sequence[int]) -> bool:
        """Return whether the newest token ends a completion."""
        if ids[-1] in self.tokens:
            return True
        return bool(self.text) and self.text in tokenizer.decode(ids[-len(self.text.encode()) :])

    def without(self, ids: Sequence[int], start: int = 0) -> list[int]:
        """Return new tokens without those that end the completion; the tokens before `start` end none."""
        return [*ids[:start], *takewhile(lambda token: token not in self.tokens, ids[start:])]

    def before(self, text: str) -> str:
        """Return the text of a completion up to the stop text."""
        return text.partition(self.text)[0] if self.text else text


NOTHING = Ends()
"""No stop condition besides the maximum length."""


def ends_of(tokenizer: Tokenizer, others: Iterable[int | None] = ()) -> Ends:
    """Return the stop conditions: EOS, `others`, and the end of an assistant turn in the chat template."""
    turn = turn_end(ChatTemplate(tokenizer))
    tokens = (tokenizer.eos_token_id, turn.token, *others)
    return Ends(frozenset(token for token in tokens if token is not None), turn.words)


def completion(
    tokenizer: Tokenizer, ends: Ends, prompt: list[int], ids: Sequence[int], *, truncated: bool = False, start: int = 0
) -> Completion:
    """Decode new tokens, alone and after their prompt, without their end; the tokens before `start` end none."""
    generated = ids
    ids = ends.without(ids, start)
    plain = ends.before(str(tokenizer.decode(ids, skip_special_tokens=True)))
    # Markers of thoughts and channels are special tokens in some models. Without them, thought and answer cannot be
    # distinguished. BOS, EOS and the like carry no information.
    silent = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.unk_token_id}
    spoken = [token for token in ids if token not in silent]
    text = ends.before(str(tokenizer.decode(spoken, skip_special_tokens=False)))
    whole = str(tokenizer.decode(prompt + ids, skip_special_tokens=True))
    return Completion(
        text, whole, "length" if truncated else "stop", len(generated), plain=None if plain == text else plain
    )
