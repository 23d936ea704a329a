"""What belongs to the answer: without the reasoning before it, the tokens around it and the turns after it."""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cleaned:
    """A response without its wrapping.

    Attributes:
        text: what was said to the reader.
        thinking: the response ends inside its reasoning.
    """

    text: str
    thinking: bool


# Openings and ends of reasoning, as the families of models write them; the last two are MedGemma's and Kimi's.
_THINK_OPEN = re.compile(
    r"<(?:think|thinking|thought|reasoning|reflection|scratchpad)>|<\|begin_of_thought\|>|<\|START_THINKING\|>"
    r"|\[THINK\]|<unused94>(?:thought)?|◁think▷",
    re.IGNORECASE,
)
_THINK_CLOSE = re.compile(
    r"</(?:think|thinking|thought|reasoning|reflection|scratchpad)>|<\|end_of_thought\|>|<\|END_THINKING\|>"
    r"|\[/THINK\]|<unused95>|◁/think▷",
    re.IGNORECASE,
)
_CHANNEL = re.compile(r"<\|channel\|>\s*(\w+)[^<]*<\|message\|>")
# What is left of the Harmony channels where special tokens were dropped in decoding.
_BARE_CHANNELS = re.compile(r"\A\s*(?:assistant)?analysis(?=[\s\S]*assistantfinal)[\s\S]*assistantfinal")
_BARE_ANALYSIS = re.compile(r"\A(?:assistant)?analysis(?=[A-Z])")

_TURN_END = re.compile(
    r"<\|(?:im_end|eot_id|eom_id|end|end_of_text|endoftext|return|END_RESPONSE|END_OF_TURN_TOKEN|user|system)\|>"
    r"|<\|(?:im_start|start|start_header_id)\|>\s*(?:user|system)"
    r"|</s>|<eos>|<end_of_turn>|<start_of_turn>\s*user|<[｜|]end▁of▁sentence[｜|]>|<[｜|]User[｜|]>|\[INST\]"
)
_TURN_START = re.compile(
    r"(?:<\|im_start\|>|<\|start\|>|<start_of_turn>|<\|start_header_id\|>)\s*(?:assistant|model)(?:\s*<\|end_header_id\|>)?"
)
_TOKEN = re.compile(r"<[|｜][\w▁/]+[|｜]>|</?s>|<(?:bos|eos|pad|unk)>|\[/?INST\]|<(?:start|end)_of_turn>")

# Models that were not tuned to stop go on with a question of their own.
_NEXT_QUESTION = re.compile(
    r"^[ \t]*(?:#+[ \t]*(?:指示|入力|質問|問題|Instruction|Input|Question)[ \t]*[:：]?"
    r"|(?:問題|質問|Question)[ \t]*\d*[ \t]*[:：])",
    re.MULTILINE,
)
_SECTION = re.compile(r"^[ \t]*#+[ \t]*(?:応答|Response)[ \t]*[:：]?", re.MULTILINE)


def clean(response: str) -> Cleaned:
    """Cut out of `response` what its author meant to be read."""
    text, thinking = _after_channels(response)
    if not thinking:
        text, thinking = _after_reasoning(text)
    text = _TURN_START.sub("", text)
    text = _until(_TURN_END, text)
    text = _TOKEN.sub("", text)
    text = _until(_NEXT_QUESTION, text)
    return Cleaned(_until(_SECTION, text).strip(), thinking)


def _after_channels(text: str) -> tuple[str, bool]:
    channels = list(_CHANNEL.finditer(text))
    if not channels:
        if bare := _BARE_CHANNELS.match(text):
            return text[bare.end() :], False
        return ("", True) if _BARE_ANALYSIS.match(text) else (text, False)
    final = [channel for channel in channels if channel[1] == "final"]
    if final:
        return text[final[-1].end() :], False
    return text[: channels[0].start()], True


def _after_reasoning(text: str) -> tuple[str, bool]:
    """What follows the last end of reasoning; before reasoning that never ends, what stands before it."""
    closed = list(_THINK_CLOSE.finditer(text))
    if closed:
        before, text = text[: closed[-1].start()], text[closed[-1].end() :]
        # An answer, then reasoning, then nothing: the answer stands before the reasoning.
        opened = _THINK_OPEN.search(before)
        if not text.strip() and opened:
            return before[: opened.start()], False
    opened = _THINK_OPEN.search(text)
    return (text[: opened.start()], True) if opened else (text, False)


def _until(mark: re.Pattern[str], text: str) -> str:
    """The first part of `text` between such marks that has something in it."""
    return next((part for part in mark.split(text) if part.strip()), "")
