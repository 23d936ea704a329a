"""Continuous batching: replies that end leave the batch, and waiting questions are read and join it."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, groupby

import torch

from jmedllm.errors import is_out_of_memory
from jmedllm.models.backends.transformers.batch import Batch
from jmedllm.models.backends.transformers.generation import generate
from jmedllm.models.backends.transformers.reading import Prefix, Reader, Start
from jmedllm.models.backends.transformers.replies import Decoder, Reply
from jmedllm.models.backends.transformers.sequences import Task, TokenPath
from jmedllm.models.memory import TokenBytes

JOIN_SHARE = 8
"""Questions are read when this part of the rows is free, so that they are read together."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of the work at one time.

    Attributes:
        memory: free memory in bytes. Half of it is for forward passes, an eighth for the keys and values of the
            prompts that are being read, and an eighth for those of the replies.
        rows: maximum number of questions to read, or of replies to continue, together.
        tokens: maximum number of padded tokens in a forward pass.
        token: memory of a token.
    """

    memory: int
    rows: int
    tokens: int
    token: TokenBytes

    @property
    def forward_tokens(self) -> int:
        """Maximum number of padded tokens in a forward pass that memory allows."""
        return min(self.memory // 2 // self.token.forward_bytes, self.tokens)

    def rows_of(self, width: int) -> int:
        """Return how many rows of `width` tokens may be in the cache."""
        return min(self.memory // 8 // (width * self.token.cache_bytes), self.rows)


def answered(reader: Reader, paths: Sequence[TokenPath], limits: Limits) -> Iterator[Task]:
    """Yield the tasks of these paths as soon as they are complete, beginning with the longest prompts.

    If memory runs out, all replies are interrupted and half as many continue.
    """
    groups = [list(group) for _, group in groupby(paths, key=lambda path: path.task.request.group)]
    groups.sort(key=lambda group: -max(len(path.ids) for path in group))
    scheduler = _Scheduler(reader, reader.decoder, limits, reader.prefix(paths), groups)
    while scheduler.queue or scheduler.running.replies:
        part = scheduler.next_part()
        try:
            if part:
                scheduler.begin(part)
            else:
                scheduler.step()
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error) or not scheduler.halve(part):
                raise
        complete, scheduler.complete = scheduler.complete, []
        yield from complete


@dataclass(slots=True)
class _Scheduler:
    """The questions that wait and the replies that are being written.

    Attributes:
        queue: paths of the groups that wait; interrupted replies come first.
        tasks: task of each reply in the batch, by the identity of the reply.
        complete: tasks that are complete.
    """

    reader: Reader
    decoder: Decoder
    limits: Limits
    prefix: Prefix
    queue: list[list[TokenPath]]
    running: Batch = field(init=False)
    tasks: dict[int, Task] = field(default_factory=dict)
    complete: list[Task] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.running = Batch(self.reader.network, self.decoder.longest)

    def next_part(self) -> list[list[TokenPath]]:
        """Return the groups to read now; none if the replies are continued."""
        occupied = len(self.running.replies)
        if not self.queue or occupied >= self.limits.rows:
            return []
        waiting = self.queue[: max(1, self.limits.rows)]
        longest = max(len(path.ids) for group in waiting for path in group)
        # A network whose replies cannot join the batch keeps them whole.
        room = self.running.block if self.reader.capabilities.joining else self.decoder.longest
        rows = self.limits.rows_of(max(longest, self.running.width) + room)
        sizes = list(accumulate(map(_size, waiting)))
        free = max(rows - occupied, 0 if occupied else 1)
        if free < min(sizes[-1], max(1, rows // JOIN_SHARE)):
            return []
        if sizes[0] > free:
            self.queue[:1] = _split(waiting[0], free)
            return self.queue[:1]
        return waiting[: sum(size <= free for size in sizes)]

    def begin(self, part: Sequence[Sequence[TokenPath]]) -> None:
        """Read these groups from the front of the queue; their replies join the batch."""
        began, tasks = time.monotonic(), {}
        for path in (path for group in part for path in group):
            tasks[path.task.index] = path.task
            path.task.began = path.task.began or began
            if path.interrupted is None:
                path.task.scores.clear()  # of a reading that was broken off
        starts = self.reader.read(part, self.prefix, self.limits.forward_tokens)
        self.tasks |= {id(start.reply): start.task for start in starts}
        self._write_alone([start for start in starts if start.keys is None])
        del self.queue[: len(part)]
        for task in tasks.values():
            if not task.request.generate:
                self._finish(task)
        self.decoder.generation_config.on_tokens(sum(start.keys is not None for start in starts))
        self._finish_replies([start.reply for start in starts])
        added = [(each.reply, each.keys) for each in starts if each.keys and not each.reply.finish_reason]
        if added:
            self.running.change(self.running.replies, added)

    def _write_alone(self, starts: Sequence[Start]) -> None:
        """Write replies whose keys and values cannot be joined, in one batch if the network supports it."""
        parts = [starts] if starts and self.reader.capabilities.generating else [[start] for start in starts]
        for part in parts:
            with torch.inference_mode():
                generate(self.reader.network, self.decoder, [start.reply for start in part])

    def step(self) -> None:
        """Continue each reply by a token."""
        if not self.running.room:
            fitting = self.limits.rows_of(self.running.width + self.running.block)
            self._interrupt(self.running.replies[max(1, fitting) :])
        replies = self.running.replies
        with torch.inference_mode():
            self.decoder.extend(replies, self.running.step())
        self.decoder.generation_config.on_tokens(len(replies))
        self._finish_replies(replies)
        staying = [reply for reply in replies if reply.finish_reason is None]
        if len(staying) < len(replies):
            self.running.change(staying)

    def _finish_replies(self, replies: Sequence[Reply]) -> None:
        for reply in replies:
            if reply.finish_reason is not None:
                task = self.tasks.pop(id(reply))
                task.completion = self.decoder.completion(reply)
                self._finish(task)

    def _finish(self, task: Task) -> None:
        task.seconds = time.monotonic() - task.began
        self.complete.append(task)

    def _interrupt(self, replies: Sequence[Reply]) -> None:
        """Take replies out of the batch. They are read again, with what is written, when there is room."""
        if not replies:
            return
        taken = {id(reply) for reply in replies}
        again = [[TokenPath(self.tasks.pop(id(reply)), reply.tokens, None, [], reply)] for reply in replies]
        self.running.change([reply for reply in self.running.replies if id(reply) not in taken])
        self.queue = again + self.queue

    def halve(self, part: Sequence[Sequence[TokenPath]]) -> bool:
        """After memory has run out, interrupt all replies and allow half as many; False if there was only one.

        Args:
            part: the groups that were being read.
        """
        unread = sum(map(_size, part)) if part and self.queue and self.queue[0] is part[0] else 0
        size = unread + len(self.running.replies)
        if size <= 1:
            return False
        self.running.cache = None
        self._interrupt([reply for reply in self.running.replies if reply.finish_reason is None])
        self.running = Batch(self.reader.network, self.decoder.longest)
        # A reply that was being read again may have got a token before memory ran out.
        self.queue = [
            [replace(path, ids=path.interrupted.tokens) if path.interrupted else path for path in group]
            for group in self.queue
        ]
        self.limits = replace(self.limits, memory=self.limits.memory // 2, rows=size // 2)
        return True


def _size(group: Sequence[TokenPath]) -> int:
    """Return the number of tasks of a group."""
    return len({path.task.index for path in group})


def _split(group: Sequence[TokenPath], size: int) -> list[list[TokenPath]]:
    """Split a group behind its first `size` tasks; the prompt that they share is read for each part."""
    first = {*list(dict.fromkeys(path.task.index for path in group))[:size]}
    return [[path for path in group if (path.task.index in first) == taken] for taken in (True, False)]
