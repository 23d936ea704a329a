"""AdamW in host memory, and the pinned buffers through which tensors are copied to and from the GPU.

The GPU keeps bfloat16 weights; the host keeps float32 copies, moments and gradients. Each gradient is sent to the
host as soon as it is complete, so that the GPU never keeps more than a few. The CPU runs the optimizer step (Ren et
al. 2021, arXiv 2101.06840) and sends the rounded weights back. The result equals AdamW on float32 copies bit for
bit: the same numbers are accumulated, clipped and updated in the same order.
"""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from queue import SimpleQueue
from typing import Any

import torch

from jmedllm.training.optim.optimizer import Optimizer, TrainedParameter
from jmedllm.training.optim.weights import chunks

SLOT = 64 * 2**20
"""Bytes of a slot. Long enough for a link to reach its speed."""

SLOTS = 8
"""So much may be under way; who wants to send more waits."""

Arrived = Callable[[int, torch.Tensor], None]
"""Called with the place in the flat source where a part begins, and the part, which is gone when it returns."""


class PinnedBuffers:
    """Copies to and from a device in parts, on a stream of its own; a thread takes care of what has arrived.

    Without a GPU the parts pass through the same slots, one after another.

    Args:
        device: where the other end of each copy is.
    """

    def __init__(self, device: torch.device) -> None:
        self._is_cuda = device.type == "cuda"
        self._stream: Any = torch.cuda.Stream(device) if self._is_cuda else None
        self._device = device
        self._free: SimpleQueue[torch.Tensor] = SimpleQueue()
        self._unmade = SLOTS
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="jmedllm-ring")
        self._under_way: list[Future[None]] = []

    def down(self, source: torch.Tensor, arrived: Arrived) -> None:
        """Copy a device tensor to the host; returns before its last parts have arrived.

        The source must not be changed until `wait` has returned; it is kept until then.
        """
        flat = source.detach().reshape(-1)
        self._after_the_device()
        for start, part, slot, view in self._parts(flat):
            with self._on_stream():
                view.copy_(part, non_blocking=True)
            self._hand_on(slot, partial(arrived, start, view), flat)

    def up(self, source: torch.Tensor, target: torch.Tensor) -> None:
        """Copy a host tensor, rounded to the format of `target`, to the device; returns before all has arrived."""
        values, flat = source.view(-1), target.detach().view(-1)
        self._after_the_device()
        for start, part, slot, view in self._parts(flat):
            view.copy_(values[start : start + len(part)])
            with self._on_stream():
                part.copy_(view, non_blocking=True)
            self._hand_on(slot, lambda: None, flat)

    def wait(self) -> None:
        """Wait for all that is under way; raises what `arrived` has raised."""
        waiting, self._under_way = self._under_way, []
        for each in waiting:
            each.result()
        if self._is_cuda:
            torch.cuda.current_stream(self._device).wait_stream(self._stream)

    def close(self) -> None:
        """Free slots and thread; nothing passes afterwards."""
        self.wait()
        self._thread.shutdown()
        self._free = SimpleQueue()

    def _parts(self, flat: torch.Tensor) -> Iterator[tuple[int, torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Where each part begins, the part, a free slot, and as much of the slot in the part's format."""
        numbers = SLOT // flat.element_size()
        for start in range(0, len(flat), numbers):
            part = flat[start : start + numbers]
            slot = self._take()
            yield start, part, slot, slot[: part.nbytes].view(part.dtype)

    def _take(self) -> torch.Tensor:
        if self._unmade and self._free.empty():
            self._unmade -= 1
            return torch.empty(SLOT, dtype=torch.uint8, pin_memory=self._is_cuda)
        return self._free.get()

    def _hand_on(self, slot: torch.Tensor, finish: Callable[[], None], device: torch.Tensor) -> None:
        """Let the thread wait for the copy, finish, and give the slot back; the device's end lives till then."""
        event = self._stream.record_event() if self._is_cuda else None

        def arrive(_: torch.Tensor) -> None:
            try:
                if event is not None:
                    event.synchronize()
                finish()
            finally:
                self._free.put(slot)

        self._under_way.append(self._thread.submit(arrive, device))

    def _after_the_device(self) -> None:
        if self._is_cuda:
            self._stream.wait_stream(torch.cuda.current_stream(self._device))

    def _on_stream(self) -> AbstractContextManager[Any]:
        return torch.cuda.stream(self._stream) if self._is_cuda else nullcontext()


class CpuOffloadOptimizer(Optimizer):
    """AdamW over parts whose holders are float32 copies on the host.

    Args:
        parts: their weights are on the device of `ring`, or on the host like the copies.
    """

    def __init__(self, parts: Mapping[str, TrainedParameter], betas: tuple[float, float], ring: PinnedBuffers) -> None:
        self._ring = ring
        sending = {
            n: replace(part, weight_format=replace(part.weight_format, write=self._write)) for n, part in parts.items()
        }
        super().__init__(sending, betas)
        for part in self.parts.values():
            gradient = torch.empty_like(part.holder)
            self._on_gradient(part, partial(self._send, part, gradient))

    def _send(self, part: TrainedParameter, gradient: torch.Tensor, _: torch.Tensor) -> None:
        """Put a gradient that has just been made into the host's, or add it to what is there."""
        made, part.weight.grad = part.weight.grad, None
        assert made is not None
        kept = gradient.view(-1)
        is_first = part.holder.grad is None
        part.holder.grad = gradient

        def arrived(start: int, values: torch.Tensor) -> None:
            into = kept[start : start + len(values)]
            if is_first:
                into.copy_(values)
                return
            for sums, added in chunks(into, values):
                sums.add_(added.float())  # torch adds two formats in five times the time

        self._ring.down(made, arrived)

    def _write(self, weight: torch.Tensor, values: torch.Tensor) -> None:
        if weight.device == values.device:
            weight.copy_(values)
        else:
            self._ring.up(values, weight)

    def clip(self, largest: float | None) -> float:
        """See `Optimizer.clip`; waits until all gradients are on the host."""
        self._ring.wait()
        return super().clip(largest)

    def step(self) -> None:
        """See `Optimizer.step`; the next forward pass waits for the weights that are still on their way."""
        super().step()
        self._ring.wait()

    def close(self) -> None:
        """See `Optimizer.close`; frees the slots too."""
        super().close()
        self._ring.close()

    def zero_grad(self) -> None:
        """Drop all gradients, those on their way too; the room for them stays."""
        self._ring.wait()
        super().zero_grad()
