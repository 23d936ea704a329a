"""Splits an answer, while it is written, into thought and answer."""

import re
from collections.abc import Iterator, Sequence
from typing import Literal

from jmedllm.models.thoughts import (
    ANSWERS,
    PUBLISHED,
    Border,
    Thought,
    borders,
    folded,
    leaves_thought_open,
    thoughts_of_template,
    without_headers,
)

MessageField = Literal["reasoning_content", "content"]
"""Where OpenAI-compatible answers have a text: in the thought or in the answer."""

CHANNEL = "<|channel|>"
_HARMONY = ("<|start|>", CHANNEL, "<|message|>", "<|constrain|>", "<|end|>")
"""Special tokens of the Harmony format (gpt-oss)."""
_HEADER = re.compile(r"(?:<\|end\|>|<\|start\|>|<\|channel\|?>)[^\n]{0,80}\Z")
"""A header between two messages of that format or of Gemma 4, which may be incomplete."""
_ENDING = re.compile(r"\s*(?:<\|end\|>)?\s*(?:<\|start\|>\s*assistant[^<]*)?\Z")
"""What that format writes between two messages, before the next channel."""


def markers_of(template: str | None) -> tuple[Thought, ...]:
    """Return all markers of thoughts: the published ones, and those that only this template has."""
    return (*PUBLISHED, *thoughts_of_template(template))


def may_think(template: str | None, prompt: str, markers: Sequence[Thought]) -> bool:
    """Return whether a model may think before it answers this prompt.

    Args:
        template: its chat template.
        prompt: the rendered prompt. One that ends with a closed thought asks for an answer at once.
        markers: see `markers_of`.
    """
    if not template or not (CHANNEL in template or any(True for _ in borders(template, markers))):
        return False
    end = prompt.rstrip()
    return not any(each.end == len(end) and each.kind == "closing" for each in list(borders(end, markers))[-1:])


def visible_markers(control: frozenset[str], markers: Sequence[Thought]) -> tuple[str, ...]:
    """Return the special tokens that are markers of thoughts, so that generated text must show them."""
    texts = {text for each in markers for text in (each.opening, each.closing)} | set(ANSWERS)
    shown = {token for token in control if any(token in text for text in texts)}
    return tuple(sorted(shown | (control & set(_HARMONY) if CHANNEL in control else set())))


class Splitter:
    """Splits text that arrives in pieces.

    Text that may be the beginning of a marker is kept back until more arrives. Markers count only before the answer
    has begun, so that an answer may mention them.

    Attributes:
        part: what the text so far ends in.
        answered: whether the answer has begun.
        kept: text that is kept back.
        seen: number of markers so far.
    """

    def __init__(self, markers: Sequence[Thought], prompt: str) -> None:
        self.part: MessageField = "reasoning_content" if leaves_thought_open(prompt, markers) else "content"
        self.answered, self.kept, self.seen = False, "", 0
        self._markers = markers
        self._has_thought = self.part == "reasoning_content"
        self._wrote = False  # whether the thought has any text
        self._gap = ""  # written before the next text of the thought
        closings = {folded(each.closing) for each in markers} | {folded(each) for each in ANSWERS}
        openings = {folded(each.opening) for each in markers if not each.nested} | {CHANNEL, _HARMONY_ANSWER}
        self._begin = {"content": _beginnings(openings), "reasoning_content": _beginnings(closings | set(_HARMONY))}

    def feed(self, text: str) -> Iterator[tuple[MessageField, str]]:
        """Yield the text that is certain with this piece, by part."""
        text, self.kept = self.kept + text, ""
        while text and not self.answered:
            border = self._border(text)
            if border is None:
                text = self._keep(text)
                break
            if self.part == "reasoning_content":
                yield from self._emit(_ENDING.sub("", text[: border.start]))
                self._gap = "\n\n" if self._wrote else ""
            self._has_thought = self._has_thought or border.kind == "opening"
            self.part = "reasoning_content" if border.kind == "opening" else "content"
            text, self.seen = text[border.end :], self.seen + 1
        yield from self._emit(text)

    def finish(self) -> Iterator[tuple[MessageField, str]]:
        """Yield what was kept back, at the end of the answer."""
        text, self.kept = self.kept, ""
        if text.strip() or not self._has_thought:
            yield from self._emit(text.rstrip() if self.part == "reasoning_content" else text)

    def _border(self, text: str) -> Border | None:
        """Return the first marker that counts where the text is."""
        for each in borders(text, self._markers):
            if each.thought is None and each.kind == "opening" and not text[: each.end].endswith(_HARMONY[2]):
                return None  # a header that is not complete yet
            is_nested = each.thought is not None and each.thought.nested
            if self.part == "reasoning_content":
                if not is_nested and (each.kind != "opening" or each.thought is None):
                    return each
            elif not is_nested and each.kind != "closing" and not without_headers(text[: each.start]):
                return each
            else:
                return None
        return None

    def _keep(self, text: str) -> str:
        """Return the text that is certain, and keep the rest."""
        beginnings = self._begin[self.part]
        narrow = folded(text)
        if self.part == "content":
            may_open = not text.strip() or narrow.lstrip() in beginnings or _HEADER.match(text.lstrip())
            self.kept = text if may_open else ""
            return "" if may_open else text
        place = len(text.rstrip())
        for length in range(1, min(len(text), _LONGEST) + 1):
            if len(narrow) == len(text) and narrow[-length:] in beginnings:
                place = min(place, len(text[:-length].rstrip()))
        if header := _HEADER.search(text):
            place = min(place, header.start())
        self.kept = text[place:]
        return text[:place]

    def _emit(self, text: str) -> Iterator[tuple[MessageField, str]]:
        is_first = not (self._wrote if self.part == "reasoning_content" else self.answered)
        if is_first and self._has_thought:
            text = text.lstrip()
        if not text:
            return
        if self.part == "reasoning_content":
            self._wrote, text, self._gap = True, self._gap + text, ""
        else:
            self.answered = True
        yield self.part, text


_HARMONY_ANSWER = "<|start|>assistant<|channel|>"
_LONGEST = 64
"""Characters of the longest marker."""


def _beginnings(texts: set[str]) -> frozenset[str]:
    return frozenset(text[:length] for text in texts for length in range(1, len(text)))
