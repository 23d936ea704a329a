"""Answers that begin at any time and are continued together, for a server."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from jmedllm.models.backends.transformers.batch import Batch
from jmedllm.models.backends.transformers.cache import PromptKeys
from jmedllm.models.backends.transformers.replies import Reply


@dataclass(slots=True)
class LiveBatch:
    """The replies that are being written. A reply joins between two steps.

    Attributes:
        network: a network whose caches can be joined, see `Capabilities.joining`.
        context: maximum number of tokens of prompt and reply.
    """

    network: Any
    context: int
    _batch: Batch = field(init=False)

    def __post_init__(self) -> None:
        self._batch = Batch(self.network, self.context)

    @property
    def replies(self) -> list[Reply]:
        """The replies, one for each row."""
        return self._batch.replies

    @torch.inference_mode()
    def read(self, prompt: Sequence[int]) -> tuple[torch.Tensor, PromptKeys]:
        """Read a prompt; return the logits [vocabulary] of its next token, and its keys and values."""
        from transformers import DynamicCache

        ids = torch.tensor([list(prompt)], device=self.network.device)
        output = self.network(input_ids=ids, past_key_values=DynamicCache(), use_cache=True, logits_to_keep=1)
        return output.logits[0, -1], PromptKeys(output.past_key_values, 0, list(range(len(prompt))))

    def add(self, reply: Reply, keys: PromptKeys) -> None:
        """Add a reply with its first token."""
        self._batch.change(self._batch.replies, [(reply, keys)])

    def keep(self, replies: Sequence[Reply]) -> None:
        """Keep these replies and drop the others."""
        if len(replies) < len(self._batch.replies):
            self._batch.change(replies)

    def step(self) -> torch.Tensor:
        """Read the newest token of each reply; return the logits [replies, vocabulary] of the next."""
        return self._batch.step()

    @torch.inference_mode()
    def score(self, prompt: Sequence[int], continuations: Sequence[Sequence[int]]) -> list[float]:
        """Return the log-probability of each continuation of a prompt, in nats, summed over its tokens."""
        first, keys = self.read(prompt)
        scores = []
        for each in continuations:
            logits = first[None]
            if len(each) > 1:
                ids = torch.tensor([list(each[:-1])], device=self.network.device)
                output = self.network(input_ids=ids, past_key_values=keys.cache, use_cache=True)
                keys.cache.crop(1 - len(each))
                logits = torch.cat([logits, output.logits[0]])
            chosen = torch.tensor(list(each), device=logits.device)[:, None]
            scores.append(float(logits.float().log_softmax(-1).gather(1, chosen).double().sum()))
        return scores
