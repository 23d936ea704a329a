"""An input embedding whose weights stay in host memory: of a batch, only the rows of its tokens go to the GPU."""

from typing import Any

import torch

from jmedllm.errors import InputError


class HostEmbedding(torch.nn.Module):
    """Looks ids up where the weights are, and hands the rows to where the ids came from.

    The weights are not pinned: what travels is a fresh tensor of rows, which the CPU has gathered.
    """

    def __init__(self, embedding: Any) -> None:
        super().__init__()
        self.embedding = embedding.cpu()

    @property
    def weight(self) -> torch.nn.Parameter:
        """[V, H], as an embedding on the GPU has it."""
        weight: torch.nn.Parameter = self.embedding.weight
        return weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """[..., H] of ids [...]."""
        rows: torch.Tensor = self.embedding(ids.to(self.weight.device))
        return rows.to(ids.device)


def keep_embedding_on_host(network: Any) -> Any:
    """The network with its input embedding in host memory.

    Args:
        network: a Hugging Face causal model, or a PEFT model around one; its embedding is frozen.

    Raises:
        InputError: the embedding is trained, or see `require_own_embedding`.
    """
    base = network.get_base_model() if hasattr(network, "get_base_model") else network
    require_own_embedding(base)
    embedding = base.get_input_embeddings()
    if embedding.weight.requires_grad:
        raise InputError("offload_embedding: true is for a frozen embedding, and this one is trained; leave it out")
    base.set_input_embeddings(HostEmbedding(embedding))
    return network


def require_own_embedding(network: Any) -> None:
    """Check that the embedding is not the output head too, which computes on the GPU.

    Raises:
        InputError: it is.
    """
    head = network.get_output_embeddings()
    if head is not None and head.weight is network.get_input_embeddings().weight:
        raise InputError(
            "offload_embedding: true saves no GPU memory here: the base's embedding shares its weights with the "
            "output head; leave it out"
        )
