"""A causal language model on this machine, run by transformers.

Each question needs one forward pass: the log-probabilities of its choices or labels and the first token of the
completion come from the same logits, and generation continues from the same keys and values. The beginning that all
questions share (instructions of the prompt pack, solved examples) is computed once.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from jmedllm.errors import is_out_of_memory
from jmedllm.models.backends.base import (
    Completion,
    ContextLimit,
    GenerationConfig,
    Request,
    Response,
    does_not_fit,
)
from jmedllm.models.backends.completion import NOTHING, Ends, ends_of
from jmedllm.models.backends.transformers.capabilities import Capabilities, context_length, detect_capabilities
from jmedllm.models.backends.transformers.generation import Start, decode, generate
from jmedllm.models.backends.transformers.pictures import PictureReader, Prepared, prepare
from jmedllm.models.backends.transformers.sequences import Task, TokenPath, encode_requests
from jmedllm.models.backends.transformers.token_tree import Tree, arrange, attention_mask, by_budget
from jmedllm.models.folder import Quantization
from jmedllm.models.loading import load_adapter, load_network
from jmedllm.models.memory import free_memory, token_bytes
from jmedllm.models.processor import load_processor
from jmedllm.models.thoughts import Thought, leaves_thought_open, thoughts_of_template
from jmedllm.models.tokenizer.encoding import Tokenizer, common_length
from jmedllm.models.tokenizer.load import load_tokenizer
from jmedllm.precision import Precision

TOKENS_PER_FORWARD = {"cpu": 2048, "cuda": 16384, "mps": 8192}
"""Maximum number of padded tokens in a forward pass: on a CPU larger passes only add padding, a GPU needs larger
ones."""

COMPLETIONS_AT_ONCE = {"cpu": 32, "cuda": 256, "mps": 64}
"""Default maximum number of completions in one batch."""

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
class _Prefix:
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


@dataclass(frozen=True)
class TransformersModel:
    """A loaded model with its tokenizer.

    Attributes:
        context: maximum number of tokens of prompt and continuation.
        capabilities: fast methods that reproduce the network's numbers, detected when loading.
        batch_size: maximum number of completions in one batch; None for the default of the device.
        ends: stop conditions of a completion.
        thoughts: markers of thoughts that only this model's template has.
        folder: the model directory, from which the processor of pictures is loaded when it is first needed.
    """

    name: str
    network: Any
    tokenizer: Tokenizer
    device: torch.device
    context: int
    capabilities: Capabilities
    batch_size: int | None = None
    ends: Ends = NOTHING
    thoughts: tuple[Thought, ...] = ()
    folder: Path | None = None

    def answer(
        self, requests: Sequence[Request], generation_config: GenerationConfig
    ) -> Iterator[tuple[int, Response]]:
        """Yield responses with the index of their request, longest prompts first; see `InferenceModel`.

        Batches are as large as the estimate of free memory allows, and are halved if memory runs out.

        Raises:
            InputError: a request does not fit the context, and `generation_config` does not skip it.
        """
        expanded = [self._prepared(each).request if each.images else each for each in requests]
        paths, too_long = encode_requests(
            expanded, generation_config, ContextLimit(self.name, self.tokenizer, self.context)
        )
        if too_long and not generation_config.skip_invalid:
            raise does_not_fit(too_long.values())
        paths = [path for path in paths if path.task.index not in too_long]
        for index in too_long:
            yield index, Response(failure="too long")
        with_pictures = [path for path in paths if path.task.request.images]
        yield from self._answer_with_pictures(requests, with_pictures, generation_config)
        paths = [path for path in paths if not path.task.request.images]
        groups = [list(group) for _, group in groupby(paths, key=lambda path: path.task.request.group)]
        groups.sort(key=lambda group: -max(len(path.ids) for path in group))
        prefix = self._read_prefix(paths)
        memory, most = free_memory(self.device), self.batch_size or COMPLETIONS_AT_ONCE[self.device.type]
        token = token_bytes(self.network.config, self.network.dtype)
        while groups:
            # Use half of the memory for forward passes, an eighth for their caches, and an eighth for joining them.
            budget = min(memory // 2 // token.forward_bytes, TOKENS_PER_FORWARD[self.device.type])
            longest = max(len(path.ids) for path in groups[0]) + generation_config.max_new_tokens
            rows = min(memory // 8 // (longest * token.cache_bytes), most)
            part = groups[: max(1, rows // len({path.task.index for path in groups[0]}))]
            start = time.monotonic()
            try:
                self._answer_groups(part, prefix, budget, generation_config)
            except (MemoryError, RuntimeError) as error:
                if len(part) == 1 or not is_out_of_memory(error):
                    raise
                memory, most = memory // 2, len(part) // 2
                continue
            groups, seconds = groups[len(part) :], time.monotonic() - start
            for task in {path.task.index: path.task for group in part for path in group}.values():
                task.seconds = seconds
                yield task.index, task.response()

    def _answer_with_pictures(
        self, requests: Sequence[Request], paths: Sequence[TokenPath], generation_config: GenerationConfig
    ) -> Iterator[tuple[int, Response]]:
        """Yield the responses to those of `requests` that have paths, one at a time.

        Pictures are prepared a second time here, because those of all requests together may not fit in memory.
        """
        reader = PictureReader(self.network, self.tokenizer, self.ends, self.device)
        is_causal = False
        for index, group in groupby(paths, key=lambda path: path.task.index):
            of_task, start = list(group), time.monotonic()
            task, prepared = of_task[0].task, self._prepared(requests[index])
            choices = [path for path in of_task if len(path.wanted) > 1]
            if choices and not is_causal:
                reader.require_causal(prepared, choices[0])
                is_causal = True
            written = reader.read(prepared, of_task, generation_config)
            task.completion = written and self._with_thoughts(task, written)
            task.seconds = time.monotonic() - start
            yield index, task.response()

    def _prepared(self, request: Request) -> Prepared:
        assert self.folder is not None  # only models from a directory are shown pictures
        return prepare(load_processor(self.folder), self.tokenizer, request)

    def _with_thoughts(self, task: Task, completion: Completion) -> Completion:
        is_open = leaves_thought_open(task.request.text, self.thoughts)
        return replace(completion, thought_open=is_open, thoughts=self.thoughts)

    @torch.inference_mode()
    def _read_prefix(self, paths: Sequence[TokenPath]) -> _Prefix:
        """Compute the prefix that all sequences share, up to the first token whose logits are needed."""
        if not self.capabilities.longest_tree or not paths:
            return _Prefix([], [])
        length = min(common_length(paths[0].ids, path.ids) for path in paths)
        length = min(length, *(len(path.ids) - max(1, len(path.wanted)) for path in paths))
        if (
            length < SHORTEST_PREFIX
            or length >= self.capabilities.longest_tree
            or len({p.task.request.group for p in paths}) == 1
        ):
            return _Prefix([], [])
        ids = paths[0].ids[:length]
        output = self.network(
            input_ids=torch.tensor([ids], device=self.device),
            past_key_values=_Prefix([], []).cache(1),
            use_cache=True,
        )
        return _Prefix(ids, [(layer.keys, layer.values) for layer in output.past_key_values.layers])

    def _answer_groups(
        self, groups: Sequence[Sequence[TokenPath]], prefix: _Prefix, budget: int, generation_config: GenerationConfig
    ) -> None:
        """Compute the results of the tasks of these groups."""
        rows = [_merge(group, len(prefix.ids)) for group in groups]
        longest = self.capabilities.longest_tree - len(prefix.ids)
        trees = [row for row in rows if len(row.tree) <= longest]
        chains = [_merge([path], 0) for row in rows if len(row.tree) > longest for path, _ in row.paths]
        starts: list[tuple[Task, Start]] = []
        for batch in by_budget([len(row.tree) for row in trees], budget):
            starts += self._read([trees[i] for i in batch], prefix, in_branches=True)
        for batch in by_budget([len(row.tree) for row in chains], budget if self.capabilities.padding else 0):
            starts += self._read([chains[i] for i in batch], _Prefix([], []), in_branches=False)
        for (task, _), completion in zip(starts, self._write([s for _, s in starts], generation_config), strict=True):
            task.completion = self._with_thoughts(task, completion)

    @torch.inference_mode()
    def _write(self, starts: Sequence[Start], generation_config: GenerationConfig) -> list[Completion]:
        """Return completions in the order of `starts`, in batches if the network supports them."""
        longest = (
            self.context
            if self.capabilities.padding
            else self.capabilities.longest_tree - generation_config.max_new_tokens
        )
        kept = [start.keys[0] is not None and len(start.prompt) <= longest for start in starts]
        joined = [i for i, keeps in enumerate(kept) if keeps]
        rest = [i for i, keeps in enumerate(kept) if not keeps]
        common = self.network, self.tokenizer, self.ends
        written = dict(zip(joined, decode(*common, [starts[i] for i in joined], generation_config), strict=True))
        for part in [rest] if rest and self.capabilities.generating else [[i] for i in rest]:
            written |= zip(part, generate(*common, [starts[i].prompt for i in part], generation_config), strict=True)
        return [written[i] for i in range(len(starts))]

    @torch.inference_mode()
    def _read(self, rows: Sequence[_PackedPaths], prefix: _Prefix, *, in_branches: bool) -> list[tuple[Task, Start]]:
        """Score the paths of some rows with one forward pass; return the starts of their completions.

        Rows without branches use a plain mask and a single row uses none, which every architecture supports.
        """
        offset = len(prefix.ids)
        batch = arrange([r.tree for r in rows], [r.needed() for r in rows], self.tokenizer.pad_token_id, offset)
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
        starts = []
        for index, (row, columns, logits) in enumerate(zip(rows, batch.columns, read, strict=True)):
            table = torch.log_softmax(logits.float(), dim=-1)
            for path, nodes in row.paths:
                places = [columns[node] for node in nodes]
                if path.choice is not None:
                    steps = [place - first for place in places[-len(path.wanted) :]]
                    path.task.scores[path.choice].append(table[steps, path.wanted].double().sum().item())
                    continue
                last = table[places[-1] - first]
                for tokens, label in zip(path.task.next_tokens, path.task.request.labels, strict=False):
                    path.task.scores[label] = [last[tokens].double().logsumexp(-1).item()]
                if path.task.request.generate:
                    columns_of_prompt = [*range(offset), *(offset + place for place in places)]
                    starts.append((path.task, Start(path.ids, int(last.argmax()), (cache, index, columns_of_prompt))))
        return starts


def _merge(paths: Sequence[TokenPath], skip: int) -> _PackedPaths:
    """Merge paths into one tree, without the first `skip` tokens, which the prefix contains."""
    tree = Tree()
    return _PackedPaths(tree, [(path, tree.add(path.ids[skip:])) for path in paths])


def load_model(
    folder: Path,
    precision: Precision,
    *,
    adapter: Path | None = None,
    name: str | None = None,
    batch_size: int | None = None,
    quantization: Quantization = "none",
    dequantize: bool = False,
) -> TransformersModel:
    """Load a model directory for evaluation, with or without an adapter.

    Raises:
        InputError: the model cannot be loaded, or its weights are quantized and this machine cannot compute with them.
    """
    from transformers import GenerationConfig

    tokenizer = load_tokenizer(folder, adapter)
    network = load_network(folder, precision.dtype, precision.device, quantization=quantization, dequantize=dequantize)
    if adapter is not None:
        network = load_adapter(network, adapter, folder)
    network.eval().requires_grad_(False)
    ends = _ends(network, tokenizer)
    network.generation_config = GenerationConfig()  # without the model's other decoding settings (penalties, bans)
    return TransformersModel(
        name=name or folder.name,
        network=network,
        tokenizer=tokenizer,
        device=precision.device,
        context=context_length(network.config),
        capabilities=detect_capabilities(network, tokenizer, precision.device),
        batch_size=batch_size,
        ends=ends,
        thoughts=thoughts_of_template(tokenizer.chat_template),
        folder=folder,
    )


def _ends(network: Any, tokenizer: Tokenizer) -> Ends:
    """Return the stop conditions of a model: its generation config, EOS, and the end of a turn in its chat
    template."""
    own = network.generation_config.eos_token_id
    return ends_of(tokenizer, own if isinstance(own, list) else [own])
