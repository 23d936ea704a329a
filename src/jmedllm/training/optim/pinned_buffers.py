"""The way between a GPU and host memory: a few pinned slots that copies pass through while both sides compute."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from queue import SimpleQueue
from typing import Any

import torch

SLOT = 64 * 2**20
"""Bytes of a slot. Long enough for a link to reach its speed."""

SLOTS = 8
"""So much may be under way; who wants to send more waits."""

Arrived = Callable[[int, torch.Tensor], None]
"""Called with the place in the flat source where a part begins, and the part, which is gone when it returns."""


class Ring:
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
