"""What a network can be asked for, found out by trying when it is loaded."""

import sys
from typing import Any

import torch

from jmedllm.models.encoding import Tokenizer
from jmedllm.models.loading import loading
from jmedllm.models.tree import Tree, attention_mask, lay_out

BRANCHES = 40
"""Branches of the tree that is tried out: enough to put the last one far from its prompt in the row."""

TOLERANCE = {torch.float32: 1e-3}
ROUGH_TOLERANCE = 0.1
"""Largest standard deviation of the difference of logits, as a share of their own. Measured: networks that can
take trees stay under 2e-6 in float32 and, with usual weights, under 0.04 in bfloat16; ALiBi and local attention
come to 0.28 and more."""


def context_length(config: Any) -> int:
    """Most tokens the model was built for; without bound where its positions have none."""
    return int(getattr(config.get_text_config(), "max_position_embeddings", None) or sys.maxsize)


def longest_tree(network: Any, tokenizer: Tokenizer, device: torch.device) -> int:
    """Most tokens of a tree that the network scores as it would score each branch alone; 0 for none.

    Raises:
        InputError: the network cannot even be given a plain prompt.
    """
    if not _reads_trees(network, tokenizer, device):
        return 0
    config = network.config.get_text_config()
    # Our mask stands in for the window's own.
    windows = [getattr(config, name, None) for name in ("window_size", "attention_chunk_size")]
    if getattr(config, "use_sliding_window", True):
        windows.append(getattr(config, "sliding_window", None))
    return min(int(length) for length in (context_length(network.config), *windows) if length)


@torch.inference_mode()
def _reads_trees(network: Any, tokenizer: Tokenizer, device: torch.device) -> bool:
    """Whether the last branch of a small tree gets the logits that it gets alone, and positions are read."""
    vocabulary = min(len(tokenizer), network.config.get_text_config().vocab_size)
    first, second, third = (vocabulary // 2 + i for i in range(3))
    prompt, last = [first, second, third] * 4, [second, third, first]
    chain, tree = Tree(), Tree()
    chain.add(prompt + last)
    end = tree.add(prompt)[-1]
    for branch in range(BRANCHES):
        tree.add([branch % (vocabulary // 2), first], end)
    nodes = tree.add(last, end)
    alone = lay_out([chain], [set(range(len(prompt), len(chain)))], 0)
    together = lay_out([tree], [set(nodes)], 0)
    with loading(f"architecture {network.config.model_type}"):
        expected = _logits(network, alone.ids.to(device), alone.positions.to(device), None)[:, -3:]
    try:
        mask = attention_mask(together.seen.to(device), 0, network.dtype)
        found = _logits(network, together.ids.to(device), together.positions.to(device), mask)[:, -3:]
        reads = _reads_positions(network, alone.ids.to(device), alone.positions.to(device))
    except (ValueError, RuntimeError, TypeError, IndexError):
        return False  # an architecture that takes no mask of its own
    return reads and bool(
        (found - expected).std() <= TOLERANCE.get(network.dtype, ROUGH_TOLERANCE) * expected.std()
    )


def _reads_positions(network: Any, ids: torch.Tensor, positions: torch.Tensor) -> bool:
    """Whether other positions give other logits. Where tokens are placed by their distance in the row (ALiBi)
    they do not, and with small weights the harm hides in bfloat16's rounding."""
    return not torch.equal(_logits(network, ids, positions, None), _logits(network, ids, 2 * positions, None))


def _logits(network: Any, ids: torch.Tensor, positions: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    logits: torch.Tensor = network(
        input_ids=ids, position_ids=positions, attention_mask=mask, use_cache=False
    ).logits
    return logits.float()
