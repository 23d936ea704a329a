"""A causal language model on this machine, by transformers."""

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from jmedllm.errors import InputError
from jmedllm.models import Completion, Request
from jmedllm.models.batching import Tree, attention_mask, branch_log_probs, by_budget, lay_out
from jmedllm.models.encoding import Tokenizer, chat_text, encode_continuations, encode_prompts
from jmedllm.models.folder import Quantization, quantization_of
from jmedllm.models.loading import load_adapter, load_network, load_tokenizer, loading
from jmedllm.precision import Precision

TOKENS_PER_FORWARD = {"cpu": 2048, "cuda": 16384}
"""Padded tokens in one scoring pass: on a CPU longer passes only add padding; a GPU wants them longer."""


@dataclass(frozen=True)
class LocalModel:
    """A loaded model with its tokenizer.

    Attributes:
        context: most tokens of prompt and continuation together.
        longest_tree: most tokens that all choices of one question may have in a shared forward pass: 0 if
            the architecture does not keep the branches of a tree apart (tried out when loading), and not
            above a sliding attention window. Otherwise each choice is scored alone: the same numbers,
            more slowly.
    """

    name: str
    network: Any
    tokenizer: Tokenizer
    device: torch.device
    context: int
    longest_tree: int

    def chat_text(self, messages: list[dict[str, str]]) -> str:
        """The text that makes this model answer `messages`, by its own chat template."""
        return chat_text(self.tokenizer, messages)

    def score(self, requests: Sequence[Request]) -> list[tuple[float, ...]]:
        """Sum of natural log-probabilities of each choice's tokens after the prompt, per request."""
        # A text that is offered twice is scored once: rounding must not break the tie.
        texts = [tuple(dict.fromkeys(request.choices)) for request in requests]
        trees = [self._tree(request, distinct) for request, distinct in zip(requests, texts, strict=True)]
        scores = [
            dict(zip(distinct, row, strict=True))
            for distinct, row in zip(texts, self._score_trees(trees), strict=True)
        ]
        return [
            tuple(by_text[text] for text in request.choices)
            for request, by_text in zip(requests, scores, strict=True)
        ]

    def _tree(self, request: Request, choices: Sequence[str]) -> Tree:
        tree = Tree(*encode_continuations(self.tokenizer, request.prompt, choices))
        self._require_room(request.id, tree.depth, "prompt and longest choice")
        if not tree.prompt or not all(tree.branches):
            raise InputError(f"question {request.id}: a choice or the prompt is empty for this tokenizer")
        return tree

    def _require_room(self, name: str, needed: int, what: str) -> None:
        if needed > self.context:
            raise InputError(
                f"question {name}: {what} need {needed} tokens, the context of {self.name} is "
                f"{self.context}; use fewer shots, a shorter prompt pack or leave the item out"
            )

    def _score_trees(self, trees: Sequence[Tree]) -> list[tuple[float, ...]]:
        rows = [
            [tree] if tree.length <= self.longest_tree else [Tree(tree.prompt, [b]) for b in tree.branches]
            for tree in trees
        ]
        scores = iter(self._score_rows([row for part in rows for row in part]))
        return [tuple(value for _ in part for value in next(scores)) for part in rows]

    @torch.inference_mode()
    def _score_rows(self, rows: Sequence[Tree]) -> list[tuple[float, ...]]:
        scores: dict[int, tuple[float, ...]] = {}
        shared = [i for i, row in enumerate(rows) if len(row.branches) > 1]
        alone = [i for i, row in enumerate(rows) if len(row.branches) == 1]
        for part in (shared, alone):
            for batch in by_budget([rows[i].length for i in part], TOKENS_PER_FORWARD[self.device.type]):
                members = [part[i] for i in batch]
                logits = self._forward([rows[i] for i in members], in_branches=part is shared)
                for index, row in zip(members, logits, strict=True):
                    scores[index] = branch_log_probs(row, rows[index])
        return [scores[i] for i in range(len(rows))]

    def _forward(self, rows: Sequence[Tree], *, in_branches: bool) -> torch.Tensor:
        batch = lay_out(rows, self.tokenizer.pad_token_id)
        branch = batch.branch.to(self.device)
        mask = attention_mask(branch, self.network.dtype) if in_branches else (branch >= 0).long()
        output = self.network(
            input_ids=batch.ids.to(self.device),
            position_ids=batch.positions.to(self.device),
            attention_mask=mask,
            logits_to_keep=batch.keep,
            use_cache=False,
        )
        logits: torch.Tensor = output.logits
        return logits

    @torch.inference_mode()
    def complete(
        self, requests: Sequence[Request], max_new_tokens: int, is_final: Callable[[Completion], bool]
    ) -> list[Completion]:
        """Greedy completions of one batch; rows stop at EOS, at `max_new_tokens` or when final."""
        from transformers import StoppingCriteriaList

        prompts = encode_prompts(self.tokenizer, [request.prompt for request in requests])
        for request, ids in zip(requests, prompts, strict=True):
            self._require_room(request.id, len(ids) + max_new_tokens, f"prompt and {max_new_tokens} new tokens")
        width = max(map(len, prompts))
        padding = [width - len(ids) for ids in prompts]
        pad = self.tokenizer.pad_token_id
        rows = torch.tensor([[pad] * n + ids for n, ids in zip(padding, prompts, strict=True)])
        output = self.network.generate(
            input_ids=rows.to(self.device),
            attention_mask=torch.tensor([[0] * n + [1] * (width - n) for n in padding]).to(self.device),
            max_new_tokens=max_new_tokens,
            stopping_criteria=StoppingCriteriaList([_StopWhenFinal(self.tokenizer, padding, width, is_final)]),
        )
        return [
            _completion(self.tokenizer, row[n:], width - n)
            for row, n in zip(output.tolist(), padding, strict=True)
        ]


def _completion(tokenizer: Tokenizer, ids: list[int], prompt_length: int) -> Completion:
    return Completion(
        text=str(tokenizer.decode(ids[prompt_length:], skip_special_tokens=True)),
        decoded=str(tokenizer.decode(ids, skip_special_tokens=True)),
    )


class _StopWhenFinal:
    """Stopping criterion per row; decodes only rows whose newest token can end a line."""

    def __init__(
        self, tokenizer: Tokenizer, padding: Sequence[int], width: int, is_final: Callable[[Completion], bool]
    ) -> None:
        self.tokenizer = tokenizer
        self.padding = padding
        self.width = width
        self.is_final = is_final

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        newest = self.tokenizer.batch_decode(input_ids[:, -1:].tolist())
        done = [
            "\n" in piece and self.is_final(_completion(self.tokenizer, row[n:], self.width - n))
            for piece, row, n in zip(newest, input_ids.tolist(), self.padding, strict=True)
        ]
        return torch.tensor(done, device=input_ids.device)


def load_model(
    folder: Path, precision: Precision, *, adapter: Path | None = None, name: str | None = None
) -> LocalModel:
    """Load a model directory for the exam, with or without an adapter."""
    tokenizer = load_tokenizer(folder)
    quantization: Quantization = quantization_of(adapter) if adapter is not None else "none"
    network = load_network(folder, precision.dtype, precision.device, quantization=quantization)
    _decode_plainly(network, tokenizer)
    if adapter is not None:
        network = load_adapter(network, adapter, folder)
    network.eval().requires_grad_(False)
    return LocalModel(
        name=name or folder.name,
        network=network,
        tokenizer=tokenizer,
        device=precision.device,
        context=context_length(network.config),
        longest_tree=longest_tree(network, tokenizer, precision.device),
    )


def _decode_plainly(network: Any, tokenizer: Tokenizer) -> None:
    """Forget a model's own habits of decoding (penalties, bans, top-k): transformers fills every setting that
    a call leaves open from them. What ends a text stays."""
    from transformers import GenerationConfig

    ends = network.generation_config.eos_token_id
    ends = ends if isinstance(ends, list) else [ends]
    network.generation_config = GenerationConfig(
        do_sample=False,
        num_beams=1,
        eos_token_id=sorted({end for end in [*ends, tokenizer.eos_token_id] if end is not None}),
        pad_token_id=tokenizer.pad_token_id,
    )


def context_length(config: Any) -> int:
    """Most tokens the model was built for; without bound where its positions have none."""
    return int(getattr(config.get_text_config(), "max_position_embeddings", None) or sys.maxsize)


def longest_tree(network: Any, tokenizer: Tokenizer, device: torch.device) -> int:
    """Most tokens of a tree that the network scores as it would score each branch alone; 0 for none.

    Raises:
        InputError: the network cannot even be given a plain prompt.
    """
    if not _scores_trees_alike(network, tokenizer, device):
        return 0
    config = network.config.get_text_config()
    # Our mask stands in for the window's own.
    windows = [getattr(config, name, None) for name in ("window_size", "attention_chunk_size")]
    if getattr(config, "use_sliding_window", True):
        windows.append(getattr(config, "sliding_window", None))
    return min(int(length) for length in (context_length(network.config), *windows) if length)


@torch.inference_mode()
def _scores_trees_alike(network: Any, tokenizer: Tokenizer, device: torch.device) -> bool:
    """Whether a small tree gives each branch what it gets alone, changing one branch leaves the other untouched
    to the last bit, and the network reads the positions that a tree gives it."""
    vocabulary = min(len(tokenizer), network.config.get_text_config().vocab_size)
    first, second, third = (vocabulary // 2 + i for i in range(3))
    probe = LocalModel("probe", network, tokenizer, device, context=0, longest_tree=0)
    prompt, branches = [first, second, third] * 4, [[third, first], [second, third, first]]
    with loading(f"architecture {network.config.model_type}"):
        alone = [
            branch_log_probs(probe._forward([tree], in_branches=False)[0], tree)[0]
            for tree in (Tree(prompt, [branch]) for branch in branches)
        ]
    try:
        tree, other = Tree(prompt, branches), Tree(prompt, [[first, first], branches[1]])
        logits = probe._forward([tree], in_branches=True)[0]
        of_other = probe._forward([other], in_branches=True)[0]
        in_place = _reads_positions(network, torch.tensor([prompt], device=device))
    except (ValueError, RuntimeError, TypeError, IndexError):
        return False  # an architecture that takes no mask of its own
    # Wide enough for bfloat16's rounding over three tokens.
    absolute, relative = (1e-3, 0.0) if network.dtype == torch.float32 else (0.2, 0.02)
    together = branch_log_probs(logits, tree)
    alike = all(
        math.isclose(a, b, abs_tol=absolute, rel_tol=relative) for a, b in zip(together, alone, strict=True)
    )
    return alike and in_place and torch.equal(logits[-2:], of_other[-2:])


def _reads_positions(network: Any, ids: torch.Tensor) -> bool:
    """Whether other positions give other logits. Where tokens are placed by their distance in the row (ALiBi)
    they do not, and on the small tree that is tried out the harm hides in bfloat16's rounding."""
    plain = torch.arange(ids.shape[1], device=ids.device)[None]
    near, far = (network(input_ids=ids, position_ids=p, use_cache=False).logits for p in (plain, 2 * plain))
    return not torch.equal(near, far)
