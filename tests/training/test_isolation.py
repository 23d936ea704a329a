"""Packed samples as the training loop computes them: in a row with padding, with activations recomputed."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from loops import tiny

from jmedllm.models.layers import decoder_of
from jmedllm.models.loading import load_network
from jmedllm.training.isolation import PackedRows, Segments, apply_alone, hidden_states, isolate
from jmedllm.training.loss import summed_loss
from jmedllm.training.memory import apply_activation_checkpointing
from jmedllm.training.packing import TrainingSample, pack_documents
from tiny_classes import build_class

ISOLATED = {
    "GptOssForCausalLM": "masks",
    "Qwen3NextForCausalLM": "mixers",
    "Lfm2MoeForCausalLM": "mixers",
    "MiniMaxForCausalLM": "samples",
}


def gradients(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: weight.grad.clone() for name, weight in network.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("checkpointing", ["none", "recompute"])
@pytest.mark.parametrize("name", ISOLATED)
def test_a_packed_batch_has_the_loss_and_gradients_of_its_samples(
    name: str, checkpointing: str, tiny_model: Path, tmp_path: Path
) -> None:
    network = load_network(build_class(name, tiny_model, tmp_path / "base"), torch.float32, torch.device("cpu"))
    isolate(network, ISOLATED[name])
    apply_activation_checkpointing(network, checkpointing)
    network.train()
    generator = torch.Generator().manual_seed(0)
    texts = [torch.randint(1, 300, (n,), generator=generator).tolist() for n in (9, 1, 30, 2, 17, 64, 5)]
    samples = [TrainingSample(str(i), ids, [True] * len(ids)) for i, ids in enumerate(texts)]
    packed = pack_documents(samples, 80, 0)
    batch = [torch.from_numpy(part) for part in (packed.ids, packed.positions, packed.loss_mask)]
    with torch.no_grad():  # a call without packed samples in between, as in generation
        network(input_ids=torch.tensor([texts[0]]))

    loss = summed_loss(network, batch[0].long(), batch[1].long(), batch[2])
    loss.backward()
    found, total = gradients(network), 0.0
    network.zero_grad()
    for row, cut in zip(*(part for part in batch[:2]), strict=True):
        starts = [*(cut == 0).nonzero()[:, 0].tolist(), len(cut)]
        for start, end in pairwise(starts):
            ids = row[start:end].long()[None]
            logits = network(input_ids=ids).logits[0, :-1]
            if end - start > 1:
                each = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum")
                each.backward()
                total += each.item()
    assert loss.item() == pytest.approx(total, rel=1e-5)
    alone = gradients(network)
    assert found.keys() == alone.keys()
    largest = max(gradient.abs().max() for gradient in alone.values())
    assert all((found[key] - alone[key]).abs().max() <= 1e-5 * largest for key in alone)


def test_segments_join_neighbours_of_one_token() -> None:
    segments = Segments.of_starts([0, 5, 6, 7, 8, 20, 21], 30)
    assert (segments.starts, segments.lengths) == ([0, 5, 8, 20, 21], [5, 3, 12, 1, 9])


def test_segments_are_padded_to_less_than_twice_their_tokens() -> None:
    buckets = list(Segments([0, 1, 3, 6, 10, 15, 32], [1, 2, 3, 4, 5, 17, 32]).buckets)
    assert [each.lengths for each in buckets] == [(1,), (2,), (3, 4), (5,), (17, 32)]


def test_a_function_sees_each_segment_alone_and_padded() -> None:
    rows = torch.arange(1, 13).reshape(2, 6)
    seen = []

    def total(padded: torch.Tensor) -> tuple[torch.Tensor, str]:
        seen.append(padded.tolist())
        return padded.cumsum(1), "state"

    sums, state = apply_alone(total, rows, Segments([0, 4, 7], [4, 3, 5]))
    assert seen == [[[1, 2, 3, 4], [5, 6, 7, 0]], [[8, 9, 10, 11, 12]]]
    assert (sums.tolist(), state) == ([[1, 3, 6, 10, 5, 11], [18, 8, 17, 27, 38, 50]], "state")


def test_known_segments_are_used_where_positions_have_no_values() -> None:
    network = tiny()
    isolate(network, "samples")
    ids = torch.arange(1, 13).reshape(1, 12)
    positions = torch.tensor([[*range(7), *range(5)]])
    read = hidden_states(decoder_of(network), PackedRows(ids, positions))
    known = hidden_states(decoder_of(network), PackedRows(ids, torch.zeros_like(ids), Segments([0, 7], [7, 5])))
    assert torch.equal(read, known)
