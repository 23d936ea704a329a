"""AdamW in host memory, and the pinned buffers through which tensors are copied to and from the GPU.

The GPU keeps bfloat16 weights; the host keeps float32 copies, moments and gradients. Each gradient is sent to the
host as soon as it is complete, so that the GPU never keeps more than a few. The CPU runs the optimizer step (Ren et
al. 2021, arXiv 2101.06840) and sends the rounded weights back. The result equals AdamW on float32 copies bit for
bit: the same numbers are accumulated, clipped and updated in the same order.
"""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from queue import SimpleQueue

import torch

from jmedllm.training.copy_stream import CopyStream
from jmedllm.training.optim.optimizer import Optimizer, TrainedParameter
from jmedllm.training.optim.weights import chunks

BUFFER_BYTES = 64 * 2**20
"""Bytes of a buffer, large enough to reach the full transfer speed."""

BUFFERS = 8
"""Number of buffers; a copy waits until one is free."""

Arrived = Callable[[int, torch.Tensor], None]
"""Called with the start of a part in the flat source, and the part, which is valid only during the call."""


class PinnedBuffers:
    """Copies tensors to and from a device in parts, on a separate stream; a thread processes completed copies.

    Without a GPU the parts pass through the same buffers synchronously.

    Args:
        device: device to copy to and from.
    """

    def __init__(self, device: torch.device) -> None:
        self._stream = CopyStream(device)
        self._free: SimpleQueue[torch.Tensor] = SimpleQueue()
        self._unallocated = BUFFERS
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="jmedllm-pinned-buffers")
        self._pending: list[Future[None]] = []

    def to_host(self, source: torch.Tensor, arrived: Arrived) -> None:
        """Start copying a device tensor to the host.

        Do not change the source until `wait` has returned; a reference to it is kept until then.
        """
        flat = source.detach().reshape(-1)
        self._stream.wait_for_computation()
        for start, part, slot, view in self._parts(flat):
            with self._stream.use():
                view.copy_(part, non_blocking=True)
            self._when_copied(slot, partial(arrived, start, view), flat)

    def to_device(self, source: torch.Tensor, target: torch.Tensor) -> None:
        """Start copying a host tensor, rounded to the dtype of `target`, to the device."""
        values, flat = source.view(-1), target.detach().view(-1)
        self._stream.wait_for_computation()
        for start, part, slot, view in self._parts(flat):
            view.copy_(values[start : start + len(part)])
            with self._stream.use():
                part.copy_(view, non_blocking=True)
            self._when_copied(slot, lambda: None, flat)

    def wait(self) -> None:
        """Wait for all pending copies; re-raises exceptions of `arrived`."""
        waiting, self._pending = self._pending, []
        for each in waiting:
            each.result()
        self._stream.wait()

    def close(self) -> None:
        """Free buffers and thread; no further copies are possible."""
        self.wait()
        self._thread.shutdown()
        self._free = SimpleQueue()

    def _parts(self, flat: torch.Tensor) -> Iterator[tuple[int, torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Yield the start of each part, the part, a free buffer, and a view of the buffer with the part's dtype and
        length."""
        numbers = BUFFER_BYTES // flat.element_size()
        for start in range(0, len(flat), numbers):
            part = flat[start : start + numbers]
            slot = self._take()
            yield start, part, slot, slot[: part.nbytes].view(part.dtype)

    def _take(self) -> torch.Tensor:
        if self._unallocated and self._free.empty():
            self._unallocated -= 1
            return torch.empty(BUFFER_BYTES, dtype=torch.uint8, pin_memory=self._stream.is_cuda)
        return self._free.get()

    def _when_copied(self, slot: torch.Tensor, finish: Callable[[], None], device: torch.Tensor) -> None:
        """Let the thread wait for the copy, call `finish` and free the buffer; the device tensor is kept until
        then."""
        event = self._stream.record()

        def arrive(_: torch.Tensor) -> None:
            try:
                if event is not None:
                    event.synchronize()
                finish()
            finally:
                self._free.put(slot)

        self._pending.append(self._thread.submit(arrive, device))


class CpuOffloadOptimizer(Optimizer):
    """AdamW whose float32 weights, moments and gradients are in host memory.

    Args:
        parts: parameters whose weights are on the device of `buffers`, or on the host.
        betas: decay rates of the first and second moment.
        buffers: pinned buffers for the copies.
    """

    def __init__(
        self, parts: Mapping[str, TrainedParameter], betas: tuple[float, float], buffers: PinnedBuffers
    ) -> None:
        self._buffers = buffers
        sending = {
            n: replace(part, weight_format=replace(part.weight_format, write=self._write)) for n, part in parts.items()
        }
        super().__init__(sending, betas)
        for part in self.parts.values():
            gradient = torch.empty_like(part.holder)
            self._on_gradient(part, partial(self._send, part, gradient))

    def _send(self, part: TrainedParameter, gradient: torch.Tensor, _: torch.Tensor) -> None:
        """Send a new gradient to the host, which adds it to those of earlier micro-batches."""
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
                sums.add_(added.float())  # adding mixed dtypes takes torch five times as long

        self._buffers.to_host(made, arrived)

    def _write(self, weight: torch.Tensor, values: torch.Tensor) -> None:
        if weight.device == values.device:
            weight.copy_(values)
        else:
            self._buffers.to_device(values, weight)

    def clip(self, largest: float | None) -> float:
        """See `Optimizer.clip`; waits until all gradients are on the host."""
        self._buffers.wait()
        return super().clip(largest)

    def step(self) -> None:
        """See `Optimizer.step`; waits until the weights are on the device."""
        super().step()
        self._buffers.wait()

    def close(self) -> None:
        """See `Optimizer.close`; frees the buffers too."""
        super().close()
        self._buffers.close()

    def zero_grad(self) -> None:
        """Drop all gradients, including pending ones; their memory stays allocated."""
        self._buffers.wait()
        super().zero_grad()
