"""The replies that are being continued together: rows that end leave, and others join."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from jmedllm.models.backends.transformers.cache import PromptKeys, join
from jmedllm.models.backends.transformers.replies import Reply

BLOCK = 256
"""Number of tokens by which the cache of all rows grows."""


@dataclass(slots=True)
class Batch:
    """Rows that are continued together.

    Attributes:
        longest: maximum number of tokens of a reply; the cache does not grow beyond.
        replies: reply of each row. All its tokens but the newest are in the cache.
        cache: keys and values, left-padded, with capacity for more tokens.
        room: the number of them.
    """

    network: Any
    longest: int
    replies: list[Reply] = field(default_factory=list)
    cache: Any = None
    room: int = 0

    @property
    def width(self) -> int:
        """Number of tokens of the longest row in the cache."""
        return max((reply.length - 1 for reply in self.replies), default=0)

    @property
    def block(self) -> int:
        """Number of tokens by which the cache grows next."""
        return min(BLOCK, self.longest)

    @torch.inference_mode()
    def change(self, staying: Sequence[Reply], added: Sequence[tuple[Reply, PromptKeys]] = ()) -> None:
        """Keep some rows and add others."""
        places = {id(reply): place for place, reply in enumerate(self.replies)}
        kept = [places[id(reply)] for reply in staying]
        cache, self.cache = self.cache, None
        self.replies = [*staying, *(reply for reply, _ in added)]
        if self.replies:
            self.room = self.block
            self.cache = join(cache if kept else None, kept, [keys for _, keys in added], self.width, self.room)

    @torch.inference_mode()
    def step(self) -> torch.Tensor:
        """Put the newest token of each row into the cache; return the logits [rows, vocabulary] of the next."""
        if not self.room:
            self.change(self.replies)
        lengths = [reply.length - 1 for reply in self.replies]
        tokens = [reply.newest for reply in self.replies]
        self.room -= 1
        return step(self.network, tokens, lengths, self.cache)


def step(network: Any, tokens: Sequence[int], lengths: Sequence[int], cache: Any) -> torch.Tensor:
    """Add one token to each row of a cache; return the logits [rows, vocabulary].

    Args:
        network: the model.
        tokens: the newest token of each row.
        lengths: number of tokens before it in each row; more columns on the left are padding.
        cache: a cache from `join`; the tokens are added to it.
    """
    layer = cache.layers[0]
    width = layer.length + 1
    before = torch.tensor(lengths, device=layer.device)[:, None]
    output = network(
        input_ids=torch.tensor(tokens, device=layer.device)[:, None],
        position_ids=before,
        attention_mask=(torch.arange(width, device=layer.device) >= width - 1 - before).long(),
        past_key_values=cache,
        use_cache=True,
    )
    logits: torch.Tensor = output.logits[:, -1]
    return logits
