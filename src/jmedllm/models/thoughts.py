"""Markers of the thoughts (reasoning) that models write before they answer, and prompts that open a thought."""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal


@dataclass(frozen=True, slots=True)
class Thought:
    """Markers around a thought.

    Attributes:
        opening: marker at its start.
        closing: marker at its end.
        nested: whether it only occurs inside other thoughts, so that its end does not end them.
    """

    opening: str
    closing: str
    nested: bool = False


def _tag(name: str, *, nested: bool = False) -> Thought:
    return Thought(f"<{name}>", f"</{name}>", nested)


PUBLISHED: tuple[Thought, ...] = (
    _tag("think"),  # DeepSeek, Qwen, GLM, Hunyuan, Phi-4, Nemotron, Granite 3.3 and 4, EXAONE 4, Olmo 3, SmolLM3
    _tag("thinking"),
    _tag("thought"),  # EXAONE Deep
    _tag("thoughts"),
    _tag("reasoning"),
    _tag("analysis"),
    _tag("scratchpad"),
    _tag("reflection", nested=True),  # Reflection
    _tag("seed:think"),  # Seed-OSS
    _tag("seed:cot_budget_reflect", nested=True),
    _tag("mm:think"),  # MiniMax M3
    _tag("longcat_think"),  # LongCat
    *map(_tag, ("思考", "思考過程", "推論", "内省", "熟考")),  # what Japanese prompts ask for
    Thought("[THINK]", "[/THINK]"),  # Magistral, Mistral
    Thought("◁think▷", "◁/think▷"),  # Kimi
    Thought("<|open|>think<|sep|>", "<|close|>think<|sep|>"),  # Kimi K3
    Thought("<|START_THINKING|>", "<|END_THINKING|>"),  # Cohere Command
    Thought("<|begin_of_thought|>", "<|end_of_thought|>"),  # Sky-T1, OpenThinker
    Thought("<|inner_prefix|>", "<|inner_suffix|>"),  # Apertus
    Thought("<|think:start|>", "<|think:end|>"),  # Solar
    Thought("<|plamo:begin_think:plamo|>", "<|plamo:end_think:plamo|>"),  # PLaMo 3
    Thought("<|content_thinking|>", "<|content_text|>"),  # Inkling
    Thought("<unused94>", "<unused95>"),  # MedGemma
    Thought("[unused16]", "[unused17]"),  # openPangu
    Thought("<|channel>thought", "<channel|>"),  # Gemma 4
    Thought("Here is my thought process:", "Here is my response:"),  # Granite 3.2
    Thought("Here's my thought process:", "Here's my response:"),
)
"""Published markers, with the models that write them."""

ANSWERS = ("<|open|>response<|sep|>", "<|START_RESPONSE|>", "<|START_TEXT|>", "<|begin_of_solution|>")
"""Markers after which the answer begins, whatever came before."""

CHANNELS = {"analysis": "opening", "commentary": "opening", "final": "answer"}
"""Channels of the Harmony format (gpt-oss), and what each contains."""

_WORDS = (
    r"think|thought|reasoning|reflect|ponder|scratchpad|monologue|deliberat|ruminat|chain[_-]of"
    r"|(?<![a-z])cot(?![a-z])"
)
_NAME = rf"[\w:.-]{{0,40}}(?:{_WORDS})[\w:.-]{{0,40}}"
UNKNOWN = re.compile(
    r"(?=<[\w/| ]|[\[◁]|&lt;)"
    rf"(?:(?i:< ?/? ?{_NAME}(?:\s[^<>\n]{{0,80}})?>|&lt;/?{_NAME}&gt;"
    rf"|<\|/?{_NAME}(?:\|>|>)|<{_NAME}\|>|◁[^◁▷\n]{{1,40}}▷|<unused\d+>|\[unused\d+\])"
    r"|<\|?channel\|?>\s*\w*|<\|(?:open|close)\|>(?!(?:response|message)<)\w+"
    r"|(?i:\[/?(?:think(?:ing)?|thoughts?|reasoning)\])"
    r"|\[/?[A-Z_]{0,20}(?:THINK|THOUGHT|REASON)[A-Z_]{0,20}\])"
)
"""Text that looks like a marker of a thought or a channel but is none of the above."""

_HINTS = (
    *(
        "think",
        "thought",
        "reason",
        "reflect",
        "ponder",
        "scratchpad",
        "monologue",
        "deliberat",
        "ruminat",
        "chain",
    ),
    *("cot", "unused", "channel", "|open|", "|close|", "◁"),
)
"""Every match of `UNKNOWN` contains one of these; searching for them takes a twentieth of the time."""

_HARMONY = re.compile(r"<\|channel\|>\s*(?P<channel>\w+)(?:[^<\n]|<\|constrain\|>)*<\|message\|>")
_CUT_HEADER = re.compile(r"<\|channel\|>\s*\w*\Z|<\|channel>(?:t(?:h(?:o(?:u(?:gh?)?)?)?)?)?\Z")
"""An incomplete channel header at the end of a truncated text."""


@dataclass(frozen=True, slots=True)
class Border:
    """A marker found in a text: its position and its kind."""

    start: int
    end: int
    kind: Literal["opening", "closing", "answer"]
    thought: Thought | None = None


_NARROW = str.maketrans("＜＞／｜［］", "<>/|[]")
"""Full-width brackets of Japanese keyboards; each maps to one character, so that positions stay the same."""


def _folded(marker: str) -> str:
    return marker.translate(_NARROW).casefold()


def has_unknown(text: str) -> bool:
    """Return whether a text contains an unknown marker of a thought or a channel."""
    narrow = text.translate(_NARROW)
    folded = narrow.casefold()
    return any(hint in folded for hint in _HINTS) and UNKNOWN.search(narrow) is not None


@cache
def _pattern(thoughts: tuple[Thought, ...]) -> tuple[re.Pattern[str], dict[str, Border]]:
    """Build one expression for all markers, and the kind of each marker by its folded text."""
    kinds = {_folded(each.opening): Border(0, 0, "opening", each) for each in thoughts}
    kinds |= {_folded(each.closing): Border(0, 0, "closing", each) for each in thoughts}
    kinds |= {_folded(each): Border(0, 0, "answer") for each in ANSWERS}
    return re.compile(rf"{_HARMONY.pattern}|{_CUT_HEADER.pattern}|(?i:{_any_of(kinds)})"), kinds


def _any_of(texts: Collection[str]) -> str:
    """Build an expression for any of these texts, longest first, that matches shared prefixes only once."""
    rests: dict[str, list[str]] = {}
    for text in texts:
        if text:
            rests.setdefault(text[0], []).append(text[1:])
    either = "|".join(re.escape(first) + _any_of(rest) for first, rest in rests.items())
    return f"(?:{either}){'?' if '' in texts else ''}" if either else ""


def borders(text: str, more: Sequence[Thought] = ()) -> Iterator[Border]:
    """Yield the markers in `text`, in order.

    Args:
        more: markers in addition to the published ones, see `thoughts_of_template`.
    """
    pattern, kinds = _pattern((*PUBLISHED, *more))
    for found in pattern.finditer(text.translate(_NARROW)):
        start, end = found.span()
        if known := kinds.get(_folded(found[0])):
            # Ordinary words are a marker only at the start of the text.
            if known.kind == "opening" and found[0][0].isalpha() and text[:start].strip():
                continue
            yield Border(start, end, known.kind, known.thought)
        elif found["channel"] is None:
            yield Border(start, end, "opening")
        elif (kind := CHANNELS.get(found["channel"])) is not None:
            yield Border(start, end, "answer" if kind == "answer" else "opening")


def leaves_thought_open(prompt: str, more: Sequence[Thought] = ()) -> bool:
    """Return whether `prompt`, as the model's template rendered it, ends inside a thought.

    Only a marker at the very end counts, so that a prompt that mentions such markers opens no thought.
    """
    text = prompt.rstrip()
    last = list(borders(text, more))[-1:]
    if last and last[0].end == len(text):
        return last[0].kind == "opening"
    # A marker that only this template has.
    return any(found.end() == len(text) and not _CLOSES.search(found[0]) for found in UNKNOWN.finditer(text))


def thoughts_of_template(template: object) -> tuple[Thought, ...]:
    """Find unpublished markers in a chat template: pairs that look like the start and the end of a thought.

    Args:
        template: the Jinja text; None if the tokenizer has none; a dict of several in some tokenizers.
    """
    if isinstance(template, dict):
        return thoughts_of_template("\n".join(map(str, template.values())))
    if not isinstance(template, str):
        return ()
    published = {each.opening.casefold() for each in PUBLISHED}
    found = {each[0] for each in UNKNOWN.finditer(template)}
    return tuple(
        Thought(opening, closing)
        for opening in sorted(found)
        if opening.casefold() not in published and not _CLOSES.search(opening)
        for closing in sorted(found & _closings(opening))
    )


_CLOSES = re.compile(r"\A[<\[◁]\|?/|\A<[^|].*\|>\Z|(?<![a-z])(?:end|close|suffix|stop)(?![a-z])", re.IGNORECASE)
"""Text that only markers at the end of a thought contain."""


def _closings(opening: str) -> set[str]:
    """Return the possible closing markers of a thought with this opening marker."""
    words = (("begin", "end"), ("start", "end"), ("open", "close"), ("prefix", "suffix"))
    spelled = {opening.replace(a, b) for a, b in words} | {opening.replace(a.upper(), b.upper()) for a, b in words}
    spelled |= {re.sub(r"\A([<\[◁]\|?)", r"\1/", opening), re.sub(r"\A<\|(.*[^|])>\Z", r"<\1|>", opening)}
    return spelled - {opening}
