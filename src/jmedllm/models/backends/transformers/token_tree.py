"""Token trees: sequences share the computation of their common prefix in one forward pass."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch


@dataclass(slots=True)
class Tree:
    """Token sequences merged along common prefixes. A node is a token in its context.

    Attributes:
        ids: token of each node; a node's parent comes before it.
        parents: node before each node; -1 if there is none.
        depths: tokens before each node.
    """

    ids: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)
    _children: dict[tuple[int, int], int] = field(default_factory=dict)

    def add(self, tokens: Sequence[int], after: int = -1) -> list[int]:
        """Add a sequence after the node `after`; return its nodes."""
        path = []
        for token in tokens:
            node = self._children.get((after, token))
            if node is None:
                node = len(self.ids)
                self._children[after, token] = node
                self.ids.append(token)
                self.parents.append(after)
                self.depths.append(0 if after < 0 else self.depths[after] + 1)
            path.append(node)
            after = node
        return path

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class TreeBatch:
    """Trees side by side, padded on the left. B trees, T tokens.

    Attributes:
        ids: [B, T] token ids.
        positions: [B, T], by depth.
        seen: [B, T, T], whether a token (row) attends to another (column): itself and those before it.
        real: [B, T], False for padding.
        columns: column of every node of each tree.
        keep: number of last columns that contain every node whose logits are needed.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    seen: torch.Tensor
    real: torch.Tensor
    columns: list[list[int]]
    keep: int


def arrange(trees: Sequence[Tree], needed: Sequence[Collection[int]], pad_id: int, offset: int = 0) -> TreeBatch:
    """Arrange trees for one forward pass.

    Args:
        trees: at least one.
        needed: nodes of each tree whose logits are read; they are moved to the end, which the mask allows.
        pad_id: token for the padding, which attends to itself so that no softmax row is empty.
        offset: number of tokens before all trees, added to the positions.
    """
    width, keep = max(map(len, trees)), max(map(len, needed))
    ids = np.full((len(trees), width), pad_id)
    positions = np.zeros((len(trees), width), dtype=np.int64)
    seen = np.zeros((len(trees), width, width), dtype=bool)
    seen[:, range(width), range(width)] = True
    real = np.zeros((len(trees), width), dtype=bool)
    columns = []
    for row, (tree, last) in enumerate(zip(trees, needed, strict=True)):
        order = [node for node in range(len(tree)) if node not in last] + sorted(last)
        start = width - len(tree)
        real[row, start:] = True
        ids[row, start:] = np.asarray(tree.ids)[order]
        positions[row, start:] = np.asarray(tree.depths)[order] + offset
        seen[row, start:, start:] = _ancestors(tree)[np.ix_(order, order)]
        place = [0] * len(tree)
        for column, node in enumerate(order, start):
            place[node] = column
        columns.append(place)
    return TreeBatch(
        torch.from_numpy(ids),
        torch.from_numpy(positions),
        torch.from_numpy(seen),
        torch.from_numpy(real),
        columns,
        max(1, keep),
    )


def _ancestors(tree: Tree) -> np.ndarray:
    """Return [n, n]: whether a node (row) equals another node (column) or descends from it."""
    seen = np.zeros((len(tree), len(tree)), dtype=bool)
    for node, parent in enumerate(tree.parents):
        if parent >= 0:
            seen[node] = seen[parent]
        seen[node, node] = True
    return seen


def attention_mask(seen: torch.Tensor, prefix: int, dtype: torch.dtype) -> torch.Tensor:
    """Build the additive mask [B, 1, T, prefix + T] of a tree batch after a prefix that every token attends to."""
    mask = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
    mask.masked_fill_(~seen, torch.finfo(dtype).min)
    return torch.nn.functional.pad(mask, (prefix, 0))[:, None]


def by_budget(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Group indices, longest first, so that the number of rows times the longest row is at most `budget` tokens."""
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    batch: list[int] = []
    for index in order:
        if batch and (len(batch) + 1) * lengths[batch[0]] > budget:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
