"""Rows of token trees: one shared prompt, several branches, laid out for one forward pass."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Tree:
    """A prompt and the continuations that branch from it, as token ids; each branch has at least one."""

    prompt: list[int]
    branches: list[list[int]]

    @property
    def length(self) -> int:
        """Tokens that are fed: a branch's last token is only predicted."""
        return len(self.prompt) + sum(len(branch) - 1 for branch in self.branches)

    @property
    def depth(self) -> int:
        """Tokens of the longest path, which is what the model's context must hold."""
        return len(self.prompt) + max((len(branch) for branch in self.branches), default=0)


@dataclass(frozen=True, slots=True)
class TreeBatch:
    """Left-padded trees. B rows, T tokens.

    Attributes:
        ids: [B, T] token ids.
        positions: [B, T], restarting after the prompt for every branch.
        branch: [B, T]; -1 padding, 0 prompt, k the k-th branch.
        keep: how many last columns hold every logit row that is needed.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    branch: torch.Tensor
    keep: int


def lay_out(trees: Sequence[Tree], pad_id: int) -> TreeBatch:
    """Lay trees out side by side, padded on the left so that all needed logits stand at the end."""
    width = max(tree.length for tree in trees)
    ids, positions, branch = [], [], []
    for tree in trees:
        padding = width - tree.length
        start = len(tree.prompt)
        fed = [branch_ids[:-1] for branch_ids in tree.branches]
        ids.append([pad_id] * padding + tree.prompt + [t for part in fed for t in part])
        positions.append([0] * padding + [*range(start)] + [start + i for part in fed for i in range(len(part))])
        branch.append([-1] * padding + [0] * start + [k for k, part in enumerate(fed, 1) for _ in part])
    keep = max(1 + tree.length - len(tree.prompt) for tree in trees)
    return TreeBatch(torch.tensor(ids), torch.tensor(positions), torch.tensor(branch), keep)


def attention_mask(branch: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Additive mask [B, 1, T, T]: a token sees the earlier tokens of the prompt and of its own branch."""
    length = branch.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=branch.device).tril()
    keys, queries = branch[:, None, :], branch[:, :, None]
    # Padding sees padding, so that no softmax row is empty.
    seen = causal & ((keys == queries) | ((keys == 0) & (queries >= 0)))
    mask = torch.zeros(seen.shape, dtype=dtype, device=branch.device)
    return mask.masked_fill_(~seen, torch.finfo(dtype).min)[:, None]


def branch_log_probs(logits: torch.Tensor, tree: Tree) -> tuple[float, ...]:
    """Summed log-probability of each branch.

    Args:
        logits: [keep, vocabulary] of one row, its last columns.
        tree: the row's tree.
    """
    needed = 1 + tree.length - len(tree.prompt)
    table = torch.log_softmax(logits[-needed:].float(), dim=-1)
    sums, row = [], 1
    for branch in tree.branches:
        rows = [0, *range(row, row + len(branch) - 1)]
        sums.append(table[rows, branch].double().sum().item())
        row += len(branch) - 1
    return tuple(sums)


def by_budget(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Group indices, longest first, so that rows times the longest row stays within `budget` tokens."""
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    batch: list[int] = []
    for index in order:
        if batch and (len(batch) + 1) * lengths[batch[0]] > budget:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
