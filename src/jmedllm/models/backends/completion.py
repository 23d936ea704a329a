"""Completions of local models: what ends one, and how its tokens become text."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

from jmedllm.models.backends.base import Completion
from jmedllm.models.chat import ChatTemplate, turn_end
from jmedllm.models.tokenizer.encoding import Tokenizer


@dataclass(frozen=True, slots=True)
class Ends:
    """What ends a completion. It is not part of the text.

    Attributes:
        tokens: each of these ends a completion.
        text: ends it as well, if the chat template ends a turn with plain text instead of a token; may be empty.
    """

    tokens: frozenset[int] = field(default_factory=frozenset)
    text: str = ""

    def reached(self, tokenizer: Tokenizer, ids: Sequence[int]) -> bool:
        """Whether the newest token ends a completion."""
        if ids[-1] in self.tokens:
            return True
        return bool(self.text) and self.text in tokenizer.decode(ids[-len(self.text.encode()) :])

    def without(self, ids: Sequence[int]) -> list[int]:
        """New tokens without those that end the completion."""
        return list(takewhile(lambda token: token not in self.tokens, ids))

    def before(self, text: str) -> str:
        """The text of a completion up to an end that is plain text."""
        return text.partition(self.text)[0] if self.text else text


NOTHING = Ends()
"""Nothing ends a completion but its limit."""


def ends_of(tokenizer: Tokenizer, others: Iterable[int | None] = ()) -> Ends:
    """What ends a completion: EOS, `others`, and what the chat template writes after a turn of the assistant."""
    turn = turn_end(ChatTemplate(tokenizer))
    tokens = (tokenizer.eos_token_id, turn.token, *others)
    return Ends(frozenset(token for token in tokens if token is not None), turn.words)


def completion(
    tokenizer: Tokenizer, ends: Ends, prompt: list[int], ids: Sequence[int], *, truncated: bool = False
) -> Completion:
    """Decode new tokens, alone and after their prompt, without what ends them."""
    generated = ids
    ids = ends.without(ids)
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
