"""Remove from a response the reasoning before the answer, the tokens around it and the turns after it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from jmedllm.models.thoughts import Thought, borders, has_unknown


@dataclass(frozen=True, slots=True)
class CleanedResponse:
    """A response without reasoning and special tokens.

    Attributes:
        text: the text for the reader.
        thinking: whether the response ends inside a thought.
        unsure: whether thought and answer cannot be separated. If the borders of the thought are of an unknown kind,
            `text` is empty. If the borders were lost, `text` is the part that may be the answer.
    """

    text: str
    thinking: bool
    unsure: bool = False


# Remains of channels and thoughts after special tokens were dropped in decoding.
_BARE_CHANNELS = re.compile(r"\A\s*(?:assistant)?analysis(?=[\s\S]*assistantfinal)[\s\S]*assistantfinal")
_BARE_ANALYSIS = re.compile(r"\A(?:assistant)?analysis(?=[A-Z])")
_BARE_THOUGHT = re.compile(r"\A\s*thought\n")
_FIRST_SENTENCE = re.compile(r"\A\s*[^\n]*?(?:。|[!?！？]|(?<=\w\w)\.(?=\s)|(?=\n)|\Z)")

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
_TOKEN = re.compile(r"<[|｜][\w▁/:]+[|｜]>|</?s>|<(?:bos|eos|pad|unk)>|\[/?INST\]|<(?:start|end)_of_turn>")

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
        thought_open: whether the prompt opened a thought; None if unknown.
        thoughts: borders of thoughts in the model's template, besides the published ones.
    """
    spoken, thinking, marked = _outside_thoughts(response, bool(thought_open), thoughts)
    if has_unknown(spoken):
        return CleanedResponse("", thinking, unsure=True)
    unsure = False
    if not marked:
        spoken, thinking, unsure = _without_markers(spoken, thinking)
        if thought_open is None and truncated:
            # All of it may be thought, unless it begins with its answer.
            spoken = _first_sentence(spoken)
    text = _TURN_START.sub("", spoken)
    text = _until(_TURN_END, text)
    text = _HTML.sub(r"\2", _TOKEN.sub("", text))
    text = _until(_NEXT_QUESTION, text)
    return CleanedResponse(_until(_SECTION, text).strip(), thinking, unsure)


def _outside_thoughts(text: str, is_open: bool, thoughts: Sequence[Thought]) -> tuple[str, bool, bool]:
    """Find the last part of a text outside thoughts that is not empty.

    An answer that only a thought follows is that part.

    Returns:
        The part, whether the text ends inside a thought, and whether it has any border of a thought.
    """
    said, start, thought, inside = [""], 0, None, is_open
    closed = False
    for border in borders(text, thoughts):
        nested = border.thought is not None and border.thought.nested and border.thought != thought
        if border.kind == "closing" and nested:  # the end of a thought within the thought
            continue
        if not inside:
            said.append(text[start : border.start])
        if border.kind == "answer" or (border.kind == "closing" and not inside and not closed):
            said = [""]  # everything before it is a thought that the prompt opened, or another channel
        if border.kind == "opening":
            thought = thought if inside else border.thought
            inside = True
        else:
            inside, closed, start = False, True, border.end
    marked = closed or (inside and not is_open) or start > 0
    if not inside:
        said.append(text[start:])
    return next((part for part in reversed(said) if part.strip()), ""), inside, marked


def _without_markers(text: str, thinking: bool) -> tuple[str, bool, bool]:
    """Remove the reasoning from a text whose markers were dropped in decoding, by the words of the markers.

    Returns:
        The rest, whether the text ends inside a thought, and whether the rest is unsure.
    """
    if channels := _BARE_CHANNELS.match(text):
        return text[channels.end() :], thinking, False
    if _BARE_ANALYSIS.match(text):
        return "", True, False
    if _BARE_THOUGHT.match(text):
        # The end of the thought is lost, so only the last line can be the answer.
        return text.rstrip().rpartition("\n")[2], thinking, True
    return text, thinking, False


def _first_sentence(text: str) -> str:
    found = _FIRST_SENTENCE.match(text)
    return found[0] if found else ""


def _until(mark: re.Pattern[str], text: str) -> str:
    """Return the first part of `text` between matches of `mark` that is not empty."""
    return next((part for part in mark.split(text) if part.strip()), "")
