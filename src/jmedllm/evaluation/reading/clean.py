"""Remove from a response the reasoning before the answer, the tokens around it and the turns after it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from jmedllm.models.thoughts import SPECIAL_TOKEN, Thought, has_unknown, split_reply


@dataclass(frozen=True, slots=True)
class CleanedResponse:
    """A response without reasoning and special tokens.

    Attributes:
        text: the text for the reader.
        thinking: whether the response ends inside a thought.
        unsure: whether thought and answer cannot be separated. If the borders of the thought are of an unknown kind,
            `text` is empty. If the borders were lost, `text` is the line that may be the answer.
    """

    text: str
    thinking: bool
    unsure: bool = False


_TURN_END = re.compile(
    r"<\|(?:im_end|eot_id|eom_id|end|end_of_text|endoftext|return|END_RESPONSE|END_TEXT|END_OF_TURN_TOKEN|user|system"
    r"|end_message|end_of_solution)\|>"
    r"|<\|(?:im_start|start|start_header_id)\|>\s*(?:user|system)|<turn\|>|<\|turn>\s*(?:user|system)"
    r"|<\|close\|>(?:response|message)<\|sep\|>|\[\|endofturn\|\]"
    r"|</s>|<eos>|<end_of_turn>|<start_of_turn>\s*user|<[｜|]end▁of▁sentence[｜|]>|<[｜|]User[｜|]>|\[INST\]"
)
_TURN_START = re.compile(
    r"(?:<\|im_start\|>|<\|start\|>|<start_of_turn>|<\|turn>|<\|start_header_id\|>)\s*(?:assistant|model)(?:\s*<\|end_header_id\|>)?"
)

_HTML = re.compile(r"<(b|i|u|p|strong|em|mark|span)(?:\s[^<>]{0,80})?>([^<>]{1,200})</\1>", re.IGNORECASE)
"""HTML emphasis, which some models write."""

# Models that were not tuned to stop continue with a question of their own.
_NEXT_QUESTION = re.compile(
    r"^[ \t]*(?:#+[ \t]*(?:指示|入力|質問|問題|Instruction|Input|Question)[ \t]*[:：]?"
    r"|(?:次の)?(?:問題|質問|Question)[ \t]*\d*[ \t]*[:：])",
    re.MULTILINE,
)
_SECTION = re.compile(r"^[ \t]*#+[ \t]*(?:応答|Response)[ \t]*[:：]?", re.MULTILINE)


def clean(
    response: str, *, truncated: bool = False, thought_open: bool | None = False, thoughts: Sequence[Thought] = ()
) -> CleanedResponse:
    """Extract the text that `response` addresses to the reader.

    Args:
        truncated: whether the response was cut off at the token limit.
        thought_open: whether the prompt opened a thought; None if unknown. Then all of a truncated response without a
            marker may be thought, and none of it is text.
        thoughts: borders of thoughts in the model's template, besides the published ones.
    """
    split = split_reply(response, thought_open=thought_open, thoughts=thoughts)
    if split.unsure:
        # The end of the thought is lost, so only the last line can be the answer.
        line = "" if has_unknown(response) else response.rstrip().rpartition("\n")[2]
        return CleanedResponse(_addressed(line), split.cut, unsure=True)
    if thought_open is None and truncated and not split.marked:
        return CleanedResponse("", thinking=True)  # all of it may be thought
    return CleanedResponse(_addressed(split.answer), split.cut)


def _addressed(text: str) -> str:
    """Return the text of one turn without special tokens."""
    text = _until(_TURN_END, _TURN_START.sub("", text))
    text = _HTML.sub(r"\2", SPECIAL_TOKEN.sub("", text))
    text = _until(_NEXT_QUESTION, text)
    return _until(_SECTION, text).strip()


def _until(mark: re.Pattern[str], text: str) -> str:
    """Return the first part of `text` between matches of `mark` that is not empty."""
    return next((part for part in mark.split(text) if part.strip()), "")
