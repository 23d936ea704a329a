"""What the tokenizer of a model directory says about texts and tokens."""

import asyncio
import threading
from dataclasses import dataclass, field

from jmedllm.models.backends.completion import Ends
from jmedllm.models.tokenizer.encoding import Tokenizer, encode
from jmedllm.models.tokenizer.stream import TextStream
from jmedllm.serving.model import Format, Sampling
from jmedllm.serving.stop import StopFinder


@dataclass(frozen=True, slots=True)
class DirectoryText:
    """The texts of a model directory.

    Attributes:
        tokenizer: its tokenizer.
        ends: what ends an answer.
    """

    tokenizer: Tokenizer
    ends: Ends
    _encoding: threading.Lock = field(default_factory=threading.Lock)

    @property
    def format(self) -> Format:
        """See `Format`."""
        tokenizer = self.tokenizer
        special = {name: text for name, text in tokenizer.special_tokens_map.items() if isinstance(text, str)}
        added = tokenizer.added_tokens_decoder.values()
        template = tokenizer.chat_template if isinstance(tokenizer.chat_template, str) else None
        control = frozenset(each.content for each in added if each.special)
        return Format(template, special, control, tuple(sorted(self.ends.tokens)), vocabulary=len(tokenizer))

    async def tokenize(self, text: str, *, add_special: bool) -> list[int]:
        """See `ServedModel`."""
        return await asyncio.to_thread(self._encode, text, add_special)

    def _encode(self, text: str, add_special: bool) -> list[int]:
        with self._encoding:  # a tokenizer may not be used by two threads
            if add_special:
                return encode(self.tokenizer, [text])[0]
            return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def answer(self, sampling: Sampling) -> "AnswerText":
        """Return the text of an answer that has no tokens yet."""
        hidden = {number for number, each in self.tokenizer.added_tokens_decoder.items() if each.special}
        shown = {number for number in hidden if self.tokenizer.convert_ids_to_tokens(number) in sampling.visible}
        stream = TextStream(self.tokenizer, hidden - shown | self.ends.tokens)
        return AnswerText(stream, StopFinder((self.ends.text,) if self.ends.text else ()))


@dataclass(frozen=True, slots=True)
class AnswerText:
    """The text of an answer, token by token.

    Attributes:
        stream: decodes them.
        stop: ends the text at that which ends a turn in the chat template, if there is one.
    """

    stream: TextStream
    stop: StopFinder

    def feed(self, token: int, *, is_last: bool) -> str:
        """Return the text that is certain with this token."""
        text = self.stop.feed(self.stream.feed(token) + (self.stream.finish() if is_last else ""))
        return text + (self.stop.kept if is_last else "")

    def rest(self) -> str:
        """Return the text that was kept back, at the end of an answer."""
        return self.stop.feed(self.stream.finish()) + self.stop.kept
