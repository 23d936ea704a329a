"""Read prompts: one forward pass scores the choices or labels of many questions and begins their replies."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from jmedllm.models.backends.transformers.cache import PromptKeys
from jmedllm.models.backends.transformers.capabilities import Capabilities
from jmedllm.models.backends.transformers.replies import Decoder, Reply
from jmedllm.models.backends.transformers.sequences import Task, TokenPath
from jmedllm.models.backends.transformers.token_tree import Tree, arrange, attention_mask, by_budget
from jmedllm.models.tokenizer.encoding import common_length

SHORTEST_PREFIX = 8
"""Minimum length of a shared prefix that is computed once."""


@dataclass(frozen=True, slots=True)
class _PackedPaths:
    """Paths merged into one tree, with the nodes of each."""

    tree: Tree
    paths: list[tuple[TokenPath, list[int]]]

    def needed(self) -> set[int]:
        """Nodes whose logits are read."""
        return {node for path, nodes in self.paths for node in nodes[-max(1, len(path.wanted)) :]}


@dataclass(frozen=True, slots=True)
class Prefix:
    """The prefix that all sequences share, with its keys and values in each layer, [1, heads, tokens, width]."""

    ids: list[int]
    states: list[tuple[torch.Tensor, torch.Tensor]]

    def cache(self, rows: int) -> Any:
        """Create a cache that starts with the prefix in every row."""
        from transformers import DynamicCache

        cache = DynamicCache()
        for layer, (keys, values) in enumerate(self.states):
            cache.update(keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1), layer)
        return cache


NO_PREFIX = Prefix([], [])


@dataclass(frozen=True, slots=True)
class Start:
    """Start of a reply.

    Attributes:
        keys: keys and values of the prompt. Its reply has one token more. None if the cache of the network cannot be
            joined with others; its reply has no new token then.
    """

    task: Task
    reply: Reply
    keys: PromptKeys | None


@dataclass(frozen=True, slots=True)
class Reader:
    """The network with what it needs to read prompts.

    Attributes:
        capabilities: fast methods that reproduce the network's numbers.
    """

    network: Any
    device: torch.device
    capabilities: Capabilities
    decoder: Decoder

    @property
    def longest_joined(self) -> int:
        """Maximum number of tokens of a prompt whose keys and values can be joined with others."""
        capabilities = self.capabilities
        if not capabilities.joining:
            return 0
        return sys.maxsize if capabilities.padding else capabilities.longest_tree - self.decoder.longest

    @torch.inference_mode()
    def prefix(self, paths: Sequence[TokenPath]) -> Prefix:
        """Compute the prefix that all sequences share, up to the first token whose logits are needed."""
        if not self.capabilities.longest_tree or not paths:
            return NO_PREFIX
        length = min(common_length(paths[0].ids, path.ids) for path in paths)
        length = min(length, *(len(path.ids) - max(1, len(path.wanted)) for path in paths))
        if (
            length < SHORTEST_PREFIX
            or length >= self.capabilities.longest_tree
            or len({p.task.request.group for p in paths}) == 1
        ):
            return NO_PREFIX
        ids = paths[0].ids[:length]
        output = self.network(
            input_ids=torch.tensor([ids], device=self.device),
            past_key_values=NO_PREFIX.cache(1),
            use_cache=True,
        )
        return Prefix(ids, [(layer.keys, layer.values) for layer in output.past_key_values.layers])

    def read(self, groups: Sequence[Sequence[TokenPath]], prefix: Prefix, budget: int) -> list[Start]:
        """Compute the scores of the tasks of these groups; return the starts of their replies.

        Args:
            prefix: what `prefix` returned.
            budget: maximum number of padded tokens in a forward pass.
        """
        rows = [_merge(group, len(prefix.ids)) for group in groups]
        longest = self.capabilities.longest_tree - len(prefix.ids)
        trees = [row for row in rows if len(row.tree) <= longest]
        chains = [_merge([path], 0) for row in rows if len(row.tree) > longest for path, _ in row.paths]
        starts: list[Start] = []
        for batch in by_budget([len(row.tree) for row in trees], budget):
            starts += self._forward([trees[i] for i in batch], prefix, in_branches=True)
        for batch in by_budget([len(row.tree) for row in chains], budget if self.capabilities.padding else 0):
            starts += self._forward([chains[i] for i in batch], NO_PREFIX, in_branches=False)
        return starts

    @torch.inference_mode()
    def _forward(self, rows: Sequence[_PackedPaths], prefix: Prefix, *, in_branches: bool) -> list[Start]:
        """Score the paths of some rows with one forward pass; return the starts of their replies.

        Rows without branches use a plain mask and a single row uses none, which every architecture supports.
        """
        offset = len(prefix.ids)
        pad_id = self.decoder.tokenizer.pad_token_id
        batch = arrange([r.tree for r in rows], [r.needed() for r in rows], pad_id, offset)
        cache = None
        inputs: dict[str, Any] = {"input_ids": batch.ids.to(self.device), "use_cache": False}
        if in_branches or self.capabilities.padding:
            writes = self.capabilities.joining and any(
                path.task.request.generate for row in rows for path, _ in row.paths
            )
            cache = prefix.cache(len(rows)) if writes or offset else None
            if in_branches:
                mask = attention_mask(batch.seen.to(self.device), offset, self.network.dtype)
            else:
                mask = batch.real.long().to(self.device)
            inputs |= {
                "position_ids": batch.positions.to(self.device),
                "attention_mask": mask,
                "logits_to_keep": batch.keep,
                "past_key_values": cache,
                "use_cache": cache is not None,
            }
        read = self.network(**inputs).logits[:, -batch.keep :]
        first = batch.ids.shape[1] - batch.keep
        starts, last = [], []
        for index, (row, columns, logits) in enumerate(zip(rows, batch.columns, read, strict=True)):
            table = torch.log_softmax(logits.float(), dim=-1)
            for path, nodes in row.paths:
                places = [columns[node] for node in nodes]
                if path.choice is not None:
                    steps = [place - first for place in places[-len(path.wanted) :]]
                    path.task.scores[path.choice].append(table[steps, path.wanted].double().sum().item())
                    continue
                if path.interrupted is None:
                    score_labels(path.task, table[places[-1] - first])
                if path.task.request.generate:
                    keys = PromptKeys(cache, index, [*range(offset), *(offset + place for place in places)])
                    starts.append(self._start(path, keys))
                    last.append(logits[places[-1] - first])
        joined = [(start.reply, row) for start, row in zip(starts, last, strict=True) if start.keys]
        if joined:
            self.decoder.extend([reply for reply, _ in joined], torch.stack([row for _, row in joined]))
        return starts

    def _start(self, path: TokenPath, keys: PromptKeys) -> Start:
        request = path.task.request
        reply = path.interrupted or self.decoder.reply(path.ids, request.text, request.seed)
        can_join = keys.cache is not None and len(reply.prompt) <= self.longest_joined
        return Start(path.task, reply, keys if can_join else None)


def score_labels(task: Task, log_probs: torch.Tensor) -> None:
    """Set the scores of a task's labels from the log-probabilities [vocabulary] of the next token."""
    for tokens, label in zip(task.next_tokens, task.request.labels, strict=False):
        task.scores[label] = [log_probs[tokens].double().logsumexp(-1).item()]


def _merge(paths: Sequence[TokenPath], skip: int) -> _PackedPaths:
    """Merge paths into one tree, without the first `skip` tokens, which the prefix contains."""
    tree = Tree()
    return _PackedPaths(tree, [(path, tree.add(path.ids[skip:])) for path in paths])
