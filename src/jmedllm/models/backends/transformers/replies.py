"""Replies that are being written: how tokens become a completion, and where it ends."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch

from jmedllm.models.backends.base import Completion, GenerationConfig, never
from jmedllm.models.backends.completion import Ends, completion
from jmedllm.models.backends.transformers.sampling import draw, next_tokens
from jmedllm.models.thoughts import Thought, ends_in_thought, leaves_thought_open, thought_end
from jmedllm.models.tokenizer.encoding import Tokenizer, encode_pairs

MARKER_TOKENS = 48
"""Maximum number of tokens of a marker that opens a thought, with some room."""


@dataclass(slots=True)
class Reply:
    """A reply that is being written.

    Attributes:
        prompt: tokens of the prompt.
        seed: seed of its random numbers.
        thought_open: whether the prompt has opened a thought.
        written: tokens of the reply so far.
        pending: tokens that follow whatever the model would write, at the end of a thought.
        closed_at: number of tokens written before these; None if there are none.
        inserted: number of these that are written.
        finish_reason: why it ended; None if it has not.
        began: when the prompt was about to be read, in seconds of a monotonic clock.
        times: when each token was written.
    """

    prompt: list[int]
    seed: int = 0
    thought_open: bool = False
    written: list[int] = field(default_factory=list)
    pending: list[int] = field(default_factory=list)
    closed_at: int | None = None
    inserted: int = 0
    finish_reason: str | None = None
    began: float = field(default_factory=time.monotonic)
    times: list[float] = field(default_factory=list)

    @property
    def tokens(self) -> list[int]:
        """Tokens of the prompt and the reply so far."""
        return self.prompt + self.written

    @property
    def length(self) -> int:
        """Number of tokens of the prompt and the reply so far."""
        return len(self.prompt) + len(self.written)

    @property
    def newest(self) -> int:
        """The newest token."""
        return self.written[-1]

    @property
    def generated(self) -> int:
        """Number of tokens that the model has written itself."""
        return len(self.written) - self.inserted


@dataclass(frozen=True, slots=True)
class Decoder:
    """Turns logits into replies.

    Attributes:
        ends: stop conditions of a completion.
        thoughts: markers of thoughts that only this model's template has.
        closing: tokens that end a thought at the thinking budget.
    """

    tokenizer: Tokenizer
    ends: Ends
    generation_config: GenerationConfig
    thoughts: tuple[Thought, ...] = ()
    closing: tuple[int, ...] = ()

    @property
    def longest(self) -> int:
        """Maximum number of tokens of a reply, with those that close its thought."""
        return self.generation_config.max_new_tokens + len(self.closing)

    def reply(self, prompt: list[int], text: str, seed: int) -> Reply:
        """Return a reply to a prompt, of which nothing is written yet."""
        return Reply(prompt, seed, leaves_thought_open(text, self.thoughts))

    def extend(self, replies: Sequence[Reply], logits: torch.Tensor) -> None:
        """Add a token to each reply, from logits [replies, vocabulary]; those that end have a finish reason then."""
        decoding = self.generation_config.decoding
        is_sampled, is_penalized = decoding.temperature > 0, decoding.repetition_penalty != 1.0
        draws = [draw(reply.seed, reply.generated) for reply in replies] if is_sampled else []
        rows = [reply.tokens for reply in replies] if is_penalized else []
        chosen = next_tokens(decoding, logits, rows, draws)
        for reply, token in zip(replies, chosen, strict=True):
            if reply.finish_reason is None:
                self.add(reply, token)

    def add(self, reply: Reply, token: int) -> None:
        """Add the token that the model has written next; `extend` does so from logits."""
        reply.times.append(time.monotonic())
        if reply.pending:
            reply.written.append(reply.pending.pop(0))
            reply.inserted += 1
            return
        reply.written.append(token)
        if self._is_over(reply):
            reply.finish_reason = "stop"
        elif reply.generated >= self.generation_config.max_new_tokens:
            reply.finish_reason = "length"
        elif self._thinks_too_long(reply):
            reply.pending, reply.closed_at = [*self.closing], len(reply.written)

    def _is_over(self, reply: Reply) -> bool:
        """Whether the newest token ends a reply. `is_final` is called only at the end of a line outside a thought."""
        if self.ends.reached(self.tokenizer, reply.written):
            return True
        is_final = self.generation_config.is_final
        if is_final is never or "\n" not in self.tokenizer.decode(reply.written[-1:]) or self._thinks(reply):
            return False
        return is_final(self.completion(reply))

    def _thinks_too_long(self, reply: Reply) -> bool:
        """Whether the newest token is the last one of a thought that the budget allows."""
        budget = self.generation_config.thinking_budget
        if budget is None or reply.generated < budget or reply.closed_at is not None:
            return False
        if reply.generated == budget:
            return self._thinks(reply)
        # The answer has begun; a thought that begins after it is closed at once.
        return ends_in_thought(self._text(reply.written[-MARKER_TOKENS:]), self.thoughts)

    def _thinks(self, reply: Reply) -> bool:
        """Whether a reply ends inside a thought."""
        return ends_in_thought(self._text(reply.written), self.thoughts, thought_open=reply.thought_open)

    def completion(self, reply: Reply) -> Completion:
        """Return a reply as text, also one that has not ended."""
        cut = reply.finish_reason == "length"
        thought = self._reasoning_tokens(reply) if reply.finish_reason else None
        start = (reply.closed_at or 0) + reply.inserted  # what closes a thought may contain the end of a turn
        found = completion(self.tokenizer, self.ends, reply.prompt, reply.written, truncated=cut, start=start)
        return replace(
            found,
            new_tokens=reply.generated,
            thought_open=reply.thought_open,
            thoughts=self.thoughts,
            reasoning_tokens=thought,
            reasoning_seconds=reply.times[thought - 1] - reply.began if thought else None,
            forced=reply.closed_at is not None,
        )

    def _reasoning_tokens(self, reply: Reply) -> int | None:
        """Return the number of tokens up to the end of the thought; None if there is none."""
        if reply.closed_at is not None:
            return reply.closed_at
        ids = self.ends.without(reply.written)
        text = self._text(ids)
        end = thought_end(text, self.thoughts, thought_open=reply.thought_open)
        if end is None:
            return None
        low, high = 0, len(ids)
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if len(self._text(ids[:middle])) >= end else (middle + 1, high)
        return low

    def _text(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=False))


def closing_tokens(tokenizer: Tokenizer, generation_config: GenerationConfig) -> tuple[int, ...]:
    """Return the tokens that end a thought at the thinking budget; none without a budget."""
    if generation_config.thinking_budget is None:
        return ()
    # After a digit, which merges neither with a line feed nor with a word; alone, some tokenizers add a space.
    [(_, ids)] = encode_pairs(tokenizer, [("0", generation_config.thought_closing)])
    return tuple(ids)
