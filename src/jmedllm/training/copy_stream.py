"""Copies between host and GPU on a stream of their own, beside the computation."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch


class CopyStream:
    """A stream for copies to and from a device. Without a GPU, copies are synchronous and nothing has to wait.

    Args:
        device: device whose computation the copies are ordered with.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.is_cuda = device.type == "cuda"
        self._stream: Any = torch.cuda.Stream(device) if self.is_cuda else None

    def use(self) -> AbstractContextManager[Any]:
        """Queue the copies in the block on this stream."""
        return torch.cuda.stream(self._stream) if self.is_cuda else nullcontext()

    def wait_for_computation(self) -> None:
        """Let later copies wait for the computation that is queued now."""
        if self.is_cuda:
            self._stream.wait_stream(torch.cuda.current_stream(self._device))

    def record(self) -> Any:
        """Return an event that occurs when all copies so far are complete; None without a GPU."""
        return self._stream.record_event() if self.is_cuda else None

    def wait_for(self, event: Any) -> None:
        """Let the computation wait for an event of `record`."""
        if event is not None:
            torch.cuda.current_stream(self._device).wait_event(event)

    def wait(self) -> None:
        """Let the computation wait for all copies so far."""
        if self.is_cuda:
            torch.cuda.current_stream(self._device).wait_stream(self._stream)
