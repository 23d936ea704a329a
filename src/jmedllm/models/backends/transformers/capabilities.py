"""Detect which fast methods reproduce the numbers of a network, when it is loaded."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from jmedllm.models.backends.transformers.batch import step
from jmedllm.models.backends.transformers.cache import PromptKeys, join
from jmedllm.models.backends.transformers.generation import generated
from jmedllm.models.backends.transformers.token_tree import Tree, arrange, attention_mask
from jmedllm.models.loading import loading
from jmedllm.models.tokenizer.encoding import Tokenizer

BRANCHES = 40
"""Branches of the test tree: enough to put the last one far from its prompt in the row."""

TOLERANCE = {torch.float32: 1e-3}
ROUGH_TOLERANCE = 0.1
"""Largest accepted standard deviation of the difference of logits, relative to that of the logits. Networks that
support trees stay below 2e-6 in float32 and, with usual weights, below 0.04 in bfloat16; ALiBi and local attention
reach 0.28 and more."""

TOKEN_LAYERS = {"DynamicLayer", "DynamicSlidingWindowLayer"}
STATE_LAYERS = {"LinearAttentionLayer", "LinearAttentionAndFullAttentionLayer", "DummyLayer"}
"""Known cache layers of transformers."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Fast methods that reproduce a network's own numbers. Each has a slower fallback that always does.

    Attributes:
        longest_tree: maximum number of tokens of one question's sequences in a shared forward pass; 0 if the
            architecture does not isolate the branches of a tree, so that each sequence needs a separate row.
        padding: whether a batch may contain left-padded rows. Otherwise each row is computed alone.
        joining: whether the cache consists of keys and values of each token only, so that the caches of separate
            prompts can be joined. Otherwise `generate` uses the network's own cache.
        generating: whether `generate` may process a batch of rows.
    """

    longest_tree: int
    padding: bool = True
    joining: bool = True
    generating: bool = False


def context_length(config: Any) -> int:
    """Return the maximum number of tokens of the model; unbounded if its positions have no limit."""
    return int(getattr(config.get_text_config(), "max_position_embeddings", None) or sys.maxsize)


@dataclass(frozen=True, slots=True)
class _Trial:
    """A test prompt split into start and end, and the reference logits of the end."""

    network: Any
    device: torch.device
    prompt: list[int]
    end: list[int]
    expected: torch.Tensor

    def logits(
        self, rows: Sequence[Tree], nodes: Sequence[set[int]], *, pad_id: int = 0, stretch: int = 1
    ) -> torch.Tensor:
        """Compute the logits of the last row's end; several rows are plain sequences."""
        batch = arrange(rows, nodes, pad_id)
        tree = len(rows) == 1
        mask = attention_mask(batch.seen, 0, self.network.dtype) if tree else batch.real.long()
        output = self.network(
            input_ids=batch.ids.to(self.device),
            position_ids=batch.positions.to(self.device) * stretch,
            attention_mask=mask.to(self.device),
            logits_to_keep=batch.keep,
            use_cache=False,
        )
        last: torch.Tensor = output.logits[-1:, -len(self.end) :]
        return last.float()

    def as_expected(self, logits: torch.Tensor) -> bool:
        """Return whether logits equal the reference for the last tokens of the end, up to rounding."""
        return self.are_alike(logits, self.expected[:, -logits.shape[1] :])

    def are_alike(self, logits: torch.Tensor, expected: torch.Tensor) -> bool:
        """Return whether logits are equal up to rounding."""
        tolerance = TOLERANCE.get(self.network.dtype, ROUGH_TOLERANCE)
        return bool((logits - expected).std() <= tolerance * expected.std())


@torch.inference_mode()
def detect_capabilities(network: Any, tokenizer: Tokenizer, device: torch.device) -> Capabilities:
    """Try the fast methods on small sequences.

    Raises:
        InputError: the network fails even on a plain prompt.
    """
    vocabulary = min(len(tokenizer), network.config.get_text_config().vocab_size)
    first, second, third = (vocabulary // 2 + i for i in range(3))
    prompt, end = [first, second, third] * 4, [second, third, first]
    with loading(f"architecture {network.config.model_type}"):
        output = network(input_ids=torch.tensor([prompt + end], device=device), use_cache=True)
    trial = _Trial(network, device, prompt, end, output.logits[:, -len(end) :].float())
    kept = _kept(output)
    padding = kept is not None and _stretch(network.config) is None and _passes(_takes_padding, trial)
    return Capabilities(
        longest_tree=_longest(network.config) if kept == "tokens" and _passes(_takes_trees, trial) else 0,
        padding=padding,
        joining=kept == "tokens" and _passes(_takes_joining, trial),
        generating=padding and kept == "states" and _passes(_takes_generating, trial),
    )


def _passes(takes: Callable[[_Trial], bool], trial: _Trial) -> bool:
    try:
        return takes(trial)
    except (ValueError, RuntimeError, TypeError, LookupError, AttributeError):
        return False  # the architecture does not support such a call


def _takes_trees(trial: _Trial) -> bool:
    """Return whether the last branch of a small tree gets its own logits, and the network uses positions."""
    tree = Tree()
    parent = tree.add(trial.prompt)[-1]
    for branch in range(BRANCHES):
        tree.add([branch % trial.prompt[0], trial.prompt[0]], parent)
    nodes = set(tree.add(trial.end, parent))
    found = trial.logits([tree], [nodes])
    # With ALiBi, tokens are placed by their distance in the row and other positions give the same logits. With
    # small weights the resulting error is no larger than bfloat16's rounding.
    return trial.as_expected(found) and not torch.equal(found, trial.logits([tree], [nodes], stretch=2))


def _takes_padding(trial: _Trial) -> bool:
    """Return whether a sequence after padding gets its own logits, and the same to the bit for any padding token.

    To the bit, because the little that a recurrent network remembers of the padding can be as small as rounding.
    """
    long, short = Tree(), Tree()
    rows = (long, (trial.prompt + trial.end) * 3), (short, trial.prompt + trial.end)
    nodes = [set(tree.add(ids)[-len(trial.end) :]) for tree, ids in rows]
    found, other = (trial.logits([long, short], nodes, pad_id=pad_id) for pad_id in trial.end[:2])
    return trial.as_expected(found) and torch.equal(found, other)


def _takes_joining(trial: _Trial) -> bool:
    """Return whether a sequence whose cache was joined with a longer one's continues as it does alone."""
    from transformers import DynamicCache

    keys = []
    for prompt in ((trial.prompt + trial.end) * 3, trial.prompt + trial.end[:-1]):
        cache = DynamicCache()
        ids = torch.tensor([prompt], device=trial.device)
        trial.network(input_ids=ids, past_key_values=cache, use_cache=True)
        keys.append(PromptKeys(cache, 0, list(range(len(prompt)))))
    lengths = [len(each.columns) for each in keys]
    joined = join(None, [], keys, max(lengths), room=1)
    logits = step(trial.network, [trial.end[-1]] * 2, lengths, joined)
    return trial.as_expected(logits[1:, None].float())


def _takes_generating(trial: _Trial) -> bool:
    """Return whether a sequence in a batch with a longer one continues as it does alone."""
    short = trial.prompt + trial.end
    options = {"max_new_tokens": 3, "output_logits": True, "return_dict_in_generate": True}
    beside, alone = (
        generated(trial.network, rows, trial.end[0], **options).logits[-1][-1].float()
        for rows in ([short * 3, short], [short])
    )
    return trial.are_alike(beside, alone)


def _kept(output: Any) -> Literal["tokens", "states"] | None:
    """Return what the network's own cache contains: "tokens" for keys and values only (possibly in a window), "states"
    if recurrent layers add states, None for an unknown kind of cache.
    """
    cache: Any = getattr(output, "past_key_values", None) or getattr(output, "cache_params", None)
    if type(cache).__name__ != "DynamicCache":
        return None
    layers = {type(layer).__name__ for layer in cache.layers}
    if layers <= TOKEN_LAYERS:
        return "tokens"
    return "states" if layers <= TOKEN_LAYERS | STATE_LAYERS else None


def _longest(config: Any) -> int:
    """Return the length up to which only the given mask and positions determine attention."""
    text = config.get_text_config()
    # The given mask replaces that of the window.
    windows = [getattr(text, name, None) for name in ("window_size", "attention_chunk_size")]
    if getattr(text, "use_sliding_window", True):
        windows.append(getattr(text, "sliding_window", None))
    return min(int(length) for length in (context_length(config), *windows, _stretch(config)) if length)


def _stretch(config: Any) -> int | None:
    """Return the length beyond which the longest row of a batch changes the positions of all (LongRoPE), or None."""
    rope = getattr(config.get_text_config(), "rope_parameters", None) or {}
    kinds = [rope, *(kind for kind in rope.values() if isinstance(kind, dict))]
    lengths = [int(k["original_max_position_embeddings"]) for k in kinds if k.get("rope_type") == "longrope"]
    return min(lengths, default=None)
