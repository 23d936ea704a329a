"""A causal language model on this machine, by transformers."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError

from jmedllm.errors import InputError
from jmedllm.models import Completion, Request
from jmedllm.models.batching import Tree, attention_mask, branch_log_probs, by_budget, lay_out
from jmedllm.models.encoding import Tokenizer, chat_text, encode_continuations, encode_prompts
from jmedllm.models.folder import require_adapter, require_model
from jmedllm.models.libraries import be_quiet, go_offline
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
            generation_config=_greedy(self.network, self.tokenizer, max_new_tokens),
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


def _greedy(network: Any, tokenizer: Tokenizer, max_new_tokens: int) -> Any:
    """Plain greedy decoding: nothing of a model's own sampling habits (penalties, top-k) may leak in."""
    from transformers import GenerationConfig

    ends = network.generation_config.eos_token_id
    ends = list(ends) if isinstance(ends, list) else [ends]
    return GenerationConfig(
        do_sample=False,
        num_beams=1,
        repetition_penalty=1.0,
        max_new_tokens=max_new_tokens,
        eos_token_id=sorted({end for end in [*ends, tokenizer.eos_token_id] if end is not None}),
        pad_token_id=tokenizer.pad_token_id,
    )


def load_tokenizer(folder: Path) -> Tokenizer:
    """Load the tokenizer of a model directory; it always has a padding token afterwards."""
    go_offline()
    from transformers import AutoTokenizer

    require_model(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.eos_token_id is None:
        raise InputError(f"model {folder}: its tokenizer has no EOS token; set eos_token in tokenizer_config.json")
    return tokenizer


def load_network(
    folder: Path,
    dtype: torch.dtype | Literal["auto"],
    device: torch.device,
    *,
    quantization: Literal["none", "nf4"] = "none",
) -> Any:
    """Load the weights of a model directory (safetensors only, no code from the directory).

    Args:
        folder: the model directory.
        dtype: format of the weights; "auto" keeps the one they are stored in.
        device: where to put them.
        quantization: "nf4" keeps linear layers in 4 bits with double quantisation (Dettmers et al. 2023,
            arXiv 2305.14314) and computes in bfloat16.

    Raises:
        InputError: the directory is no model that can be loaded.
    """
    go_offline()
    from transformers import AutoModelForCausalLM

    require_model(folder)
    be_quiet()
    options = {"quantization_config": _nf4(), "device_map": {"": device}} if quantization == "nf4" else {}
    try:
        network: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, trust_remote_code=False, **options
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise InputError(f"model {folder}: cannot be loaded: {str(error).splitlines()[0]}") from error
    return network if options else network.to(device)


def _nf4() -> Any:
    from importlib.util import find_spec

    from transformers import BitsAndBytesConfig

    if find_spec("bitsandbytes") is None:
        raise InputError("quantization nf4 needs bitsandbytes; install it with: pip install 'jmedllm[gpu]'")
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )


def load_adapter(network: Any, adapter: Path, base: Path) -> Any:
    """Put a PEFT adapter trained on `base` onto its network.

    Raises:
        InputError: the adapter is none, or belongs to another base.
    """
    from peft import PeftModel

    require_adapter(adapter, base)
    try:
        return PeftModel.from_pretrained(network, str(adapter))
    except (RuntimeError, ValueError, KeyError) as error:
        first = str(error).strip().splitlines()[0]
        raise InputError(f"adapter {adapter}: does not fit the base {base}: {first}") from error


def load_model(
    folder: Path, precision: Precision, *, adapter: Path | None = None, name: str | None = None
) -> LocalModel:
    """Load a model directory for the exam, with or without an adapter."""
    tokenizer = load_tokenizer(folder)
    network = load_network(folder, precision.dtype, precision.device)
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


def context_length(config: Any) -> int:
    """Most tokens the model was built for; without bound where its positions have none."""
    return int(getattr(config.get_text_config(), "max_position_embeddings", None) or sys.maxsize)


def longest_tree(network: Any, tokenizer: Tokenizer, device: torch.device) -> int:
    """Most tokens of a tree that the network scores as it would score each branch alone."""
    if not _keeps_branches_apart(network, tokenizer, device):
        return 0
    config = network.config.get_text_config()
    # Our mask stands in for the window's own.
    windowed = getattr(config, "use_sliding_window", True) and getattr(config, "sliding_window", None)
    return int(config.sliding_window) if windowed else context_length(network.config)


@torch.inference_mode()
def _keeps_branches_apart(network: Any, tokenizer: Tokenizer, device: torch.device) -> bool:
    """Whether changing one branch leaves the other's logits untouched, to the last bit."""
    vocabulary = min(len(tokenizer), network.config.get_text_config().vocab_size)
    first, second, other = (vocabulary // 2 + i for i in range(3))
    probe = LocalModel("probe", network, tokenizer, device, context=0, longest_tree=0)
    prompt = [first, second, other]

    def logits(token: int) -> torch.Tensor:
        tree = Tree(prompt, [[token, first], [second, other, first]])
        return probe._forward([tree], in_branches=True)[0, -2:]

    return bool(torch.equal(logits(first), logits(other)))
