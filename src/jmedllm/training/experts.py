"""Mixtures of experts in training: the load of each expert, and the load-balancing loss."""

import math
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from jmedllm.errors import InputError
from jmedllm.models.experts import ExpertLayer, chosen_experts, expert_layers
from jmedllm.models.layers import inside_adapter
from jmedllm.processes import summed, summed_tensor
from jmedllm.progress import notice
from jmedllm.training.isolation import PackedRows
from jmedllm.training.metrics import METRICS

Loss = Callable[..., torch.Tensor]
"""Called with the router logits of each layer, the number of experts, the number per token and a mask."""

COLLAPSED = 0.1
"""A router has collapsed if it spreads its choices over fewer experts than those of one token and this share of the
others."""

_ENOUGH = 10
"""Least number of choices per expert from which a load is judged: of a few, chance leaves experts out."""


def balance_coefficient(network: Any, wanted: float | None) -> float:
    """Return the weight of the load-balancing loss.

    Args:
        network: a causal model, or a PEFT model around one.
        wanted: the weight in the recipe; None for that of the base: `router_aux_loss_coef` of its configuration if
            its `output_router_logits` is true, else 0, as in transformers.

    Raises:
        InputError: a weight is wanted, but the architecture has no such loss.
    """
    config = network.config.get_text_config()
    if wanted is None:
        named = getattr(config, "router_aux_loss_coef", None) or getattr(config, "aux_loss_coef", None) or 0.0
        is_used = getattr(config, "output_router_logits", False) and _loss_of(network) is not None
        return float(named) if is_used else 0.0
    if wanted and _loss_of(network) is None:
        raise InputError(
            f"router_aux_loss_coef: architecture {config.model_type!r} has no load-balancing loss; leave it out"
        )
    return wanted


def _loss_of(network: Any) -> Loss | None:
    """Return the load-balancing loss beside a network's class in transformers (arXiv 2101.03961, equations 4 to 6)."""
    base = inside_adapter(network)
    # Sharding makes a class of its own from that of transformers.
    modules = [sys.modules[kind.__module__] for kind in type(base).__mro__]
    found = (getattr(module, "load_balancing_loss_func", None) for module in modules)
    return next((each for each in found if each is not None), None)


@dataclass(frozen=True, slots=True)
class RouterCall:
    """What a router returned for T tokens.

    Attributes:
        logits: [T, experts]; without values, [T, 0], if there is no load-balancing loss.
        experts: [T, experts per token], numbers of the chosen experts.
    """

    logits: torch.Tensor
    experts: torch.Tensor


Calls = dict[str, list[RouterCall]]
"""Calls of each router in a forward pass, by the key of its layer."""


class Routers:
    """The routers of a network, whose calls can be recorded; see `routers_of`.

    Attributes:
        layers: layers of experts with a router, by the number of their decoder layer, or else by their name.
        count: number of experts of a layer.
        chosen: number of experts per token, by the key of the layer.
        coefficient: weight of the load-balancing loss.
        loss: the load-balancing loss of the architecture; None if it has none.
    """

    def __init__(self, network: Any, layers: Sequence[ExpertLayer], coefficient: float) -> None:
        self.layers = _by_number(layers)
        self.count = layers[0].count
        config = network.config.get_text_config()
        self.chosen = {number: chosen_experts(config, layer) for number, layer in self.layers.items()}
        self.coefficient = coefficient
        self.loss = _loss_of(network)
        self._calls: Calls | None = None
        self._reported: set[str] = set()
        base = inside_adapter(network)
        for number, layer in self.layers.items():
            base.get_submodule(layer.router or "").register_forward_hook(partial(self._record, number, layer))

    @contextmanager
    def recording(self) -> Iterator[Calls]:
        """Record the calls of the routers inside the block.

        Calls outside, such as those that recompute activations, are not recorded.
        """
        self._calls = defaultdict(list)
        try:
            yield self._calls
        finally:
            self._calls = None

    def _record(self, number: str, layer: ExpertLayer, _: Any, __: Any, output: Any) -> None:
        if self._calls is not None:
            call = _read(output, layer.count, self.chosen[number])
            logits = call.logits if self.coefficient else call.logits[:, :0].detach()
            self._calls[number].append(RouterCall(logits, call.experts))

    def report_collapsed(self, title: str, step: int, load: Mapping[str, Mapping[str, float]], tokens: int) -> None:
        """Print each layer whose router has collapsed, once.

        Args:
            title: name of the stage.
            step: number of the step.
            load: the load of each layer, see `expert_load`.
            tokens: number of tokens of the step.
        """
        for number, layer in self.layers.items():
            used = load[number]["experts"]
            if number not in self._reported and has_collapsed(used, layer.count, self.chosen[number], tokens):
                self._reported.add(number)
                notice(
                    f"{title}: step {step}: the router {layer.router} has collapsed: its choices are spread as if "
                    f"there were {used:.1f} of {layer.count} experts; see expert_load in {METRICS}"
                )


def routers_of(network: Any, coefficient: float) -> Routers | None:
    """Return the routers of a causal model, or of a PEFT model around one; None if it has none.

    Args:
        network: the model; hooks are added to its routers.
        coefficient: weight of the load-balancing loss, from `balance_coefficient`.
    """
    layers = [layer for layer in expert_layers(network) if layer.router is not None]
    return Routers(network, layers, coefficient) if layers else None


def _by_number(layers: Sequence[ExpertLayer]) -> dict[str, ExpertLayer]:
    numbers = [next((part for part in layer.name.split(".") if part.isdigit()), layer.name) for layer in layers]
    is_unique = len(set(numbers)) == len(layers)
    return dict(zip(numbers if is_unique else [layer.name for layer in layers], layers, strict=True))


def _read(output: Any, count: int, chosen: int) -> RouterCall:
    """Return the logits and the chosen experts in a router's output, or else the experts of the largest logits."""
    parts = [each.flatten(0, -2) for each in output if isinstance(each, torch.Tensor) and each.dim() > 1]
    logits = next(each for each in parts if each.is_floating_point() and each.shape[-1] == count)
    experts = next((each for each in parts if not each.is_floating_point()), None)
    return RouterCall(logits.float(), logits.topk(chosen).indices if experts is None else experts)


class StepExperts:
    """Load and balance of the experts over the micro-batches of one optimizer step.

    Rows without a trained token, and padding, do not count.

    Args:
        routers: routers of the network.
        tokens: number of tokens that count in the micro-batches of all processes.
    """

    def __init__(self, routers: Routers, tokens: int) -> None:
        self.tokens = tokens
        self.recording = routers.recording
        self._routers = routers
        self._loads = {number: torch.zeros(each.count, dtype=torch.long) for number, each in routers.layers.items()}
        self._loss = 0.0

    def balance_loss(
        self, calls: Calls, ids: torch.Tensor, positions: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        """Add a micro-batch; return its part of the load-balancing loss, times its coefficient.

        The loss is computed for each row, over all layers, and averaged over the rows of a step by their tokens, so it
        does not depend on the micro-batch size.

        Args:
            calls: calls of the routers in the forward pass of the micro-batch.
            ids: [B, T] token ids.
            positions: [B, T], restarting with each sample and each padding token.
            mask: [B, T], true where the token is a target.
        """
        counted, rows = counted_tokens(positions, mask), PackedRows(ids, positions)
        for number, load in self._loads.items():
            experts = _in_order([call.experts for call in calls[number]], rows)[counted]
            self._loads[number] = load.to(experts.device) + experts.flatten().bincount(minlength=len(load))
        total = torch.zeros((), device=ids.device)
        routers = self._routers
        if not routers.coefficient or routers.loss is None:
            return total
        logits = [_in_order([call.logits for call in calls[number]], rows) for number in routers.layers]
        for row, kept in enumerate(counted):
            if kept.any():
                of_row = tuple(values[row] for values in logits)
                loss = routers.loss(of_row, routers.count, max(routers.chosen.values()), kept[None].long())
                total = total + loss * (kept.sum() / max(1, self.tokens))
        self._loss += total.item()
        return total * routers.coefficient

    def measured(self) -> dict[str, Any]:
        """Return the load of the experts of each layer, and the load-balancing loss if it is used, for the metrics."""
        counts = summed_tensor(torch.cat([each.cpu() for each in self._loads.values()]))
        parts = counts.split([len(each) for each in self._loads.values()])
        load = {number: expert_load(each.tolist()) for number, each in zip(self._loads, parts, strict=True)}
        return {"expert_load": load} | ({"router_aux_loss": summed(self._loss)} if self._routers.coefficient else {})


def counted_tokens(positions: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return which tokens [B, T] count: all but padding, in rows with a trained token.

    Padding is a token at position 0 that no other token of its sample follows.
    """
    following = torch.nn.functional.pad(positions[:, 1:], (0, 1))
    return ((positions > 0) | (following > 0)) & mask.any(dim=1, keepdim=True)


def _in_order(calls: Sequence[torch.Tensor], rows: PackedRows) -> torch.Tensor:
    """Return the values [B, T, N] of all tokens; a router may also have seen the samples one by one, and padded."""
    if len(calls) == 1 and len(calls[0]) == rows.ids.numel():
        return calls[0].view(*rows.ids.shape, -1)
    found = [
        call[bucket.padded_tokens.to(call.device)] for call, bucket in zip(calls, rows.segments.buckets, strict=True)
    ]
    order = rows.segments.order.to(found[0].device)
    return torch.cat(found)[order].view(*rows.ids.shape, -1)


def expert_load(counts: Sequence[float]) -> dict[str, float]:
    """Describe how a layer's choices are spread over its experts.

    Args:
        counts: how often each expert was chosen.

    Returns:
        `max` and `min`: the largest and smallest share of all choices that one expert got; `experts`: the exponential
        of the entropy of the shares, which is the number of experts if all are chosen equally often.
    """
    total = sum(counts) or 1.0
    shares = [count / total for count in counts]
    entropy = -sum(share * math.log(share) for share in shares if share)
    return {"max": round(max(shares), 4), "min": round(min(shares), 4), "experts": round(math.exp(entropy), 2)}


def has_collapsed(used: float, count: int, chosen: int, tokens: int) -> bool:
    """Return whether a router has collapsed, see `COLLAPSED`; false if there are too few tokens.

    Args:
        used: number of experts over which the choices are spread, see `expert_load`.
        count: number of experts.
        chosen: number of experts per token.
        tokens: number of tokens.
    """
    return tokens * chosen >= _ENOUGH * count and used < chosen + COLLAPSED * (count - chosen)
