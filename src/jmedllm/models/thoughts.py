"""Markers of the thoughts (reasoning) that models write before they answer, prompts that open a thought, and replies
split into thought and answer."""

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


def folded(marker: str) -> str:
    """Return a text in the form in which markers are compared; it has as many characters in nearly all cases."""
    return marker.translate(_NARROW).casefold()


def has_unknown(text: str) -> bool:
    """Return whether a text contains an unknown marker of a thought or a channel."""
    narrow = text.translate(_NARROW)
    folded = narrow.casefold()
    return any(hint in folded for hint in _HINTS) and UNKNOWN.search(narrow) is not None


@cache
def _pattern(thoughts: tuple[Thought, ...]) -> tuple[re.Pattern[str], dict[str, Border]]:
    """Build one expression for all markers, and the kind of each marker by its folded text."""
    kinds = {folded(each.opening): Border(0, 0, "opening", each) for each in thoughts}
    kinds |= {folded(each.closing): Border(0, 0, "closing", each) for each in thoughts}
    kinds |= {folded(each): Border(0, 0, "answer") for each in ANSWERS}
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
        if known := kinds.get(folded(found[0])):
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


def thought_end(text: str, more: Sequence[Thought] = (), *, thought_open: bool = False) -> int | None:
    """Return where the thoughts of a reply end, with their last marker; None if it contains none.

    A thought that is not closed ends with the text.

    Args:
        text: the reply.
        more: markers in addition to the published ones.
        thought_open: whether the prompt has opened a thought.
    """
    last = _last_border(text, more)
    if last is None:
        return len(text) if thought_open else None
    return len(text) if last.kind == "opening" else last.end


def ends_in_thought(text: str, more: Sequence[Thought] = (), *, thought_open: bool = False) -> bool:
    """Return whether a reply ends inside a thought; one that ends with the closing marker does not.

    The arguments are those of `thought_end`.
    """
    last = _last_border(text, more)
    return thought_open if last is None else last.kind == "opening"


def _last_border(text: str, more: Sequence[Thought]) -> Border | None:
    found = [each for each in borders(text, more) if each.thought is None or not each.thought.nested]
    return found[-1] if found else None


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


SPECIAL_TOKEN = re.compile(r"<[|｜][\w▁/:]+[|｜]>|</?s>|<(?:bos|eos|pad|unk)>|\[/?INST\]|<(?:start|end)_of_turn>")
"""Special tokens that decoded text may contain."""


@dataclass(frozen=True, slots=True)
class SplitReply:
    """A reply, split into thought and answer.

    Attributes:
        answer: the last part outside thoughts that is not empty, even if another thought follows it; the whole reply
            if it has no marker, or is `unsure`.
        thought: all other parts, without their markers; empty if there are none.
        cut: whether the reply ends inside a thought.
        marked: whether the reply has a marker of a thought or a channel, or what decoding has left of one.
        thought_open: whether the prompt had opened a thought: as given, or as the markers show; None if unknown.
        unsure: whether thought and answer cannot be separated, because the markers are of an unknown kind or the end
            of the thought was lost in decoding.
    """

    answer: str
    thought: str = ""
    cut: bool = False
    marked: bool = False
    thought_open: bool | None = None
    unsure: bool = False


def split_reply(text: str, *, thought_open: bool | None = False, thoughts: Sequence[Thought] = ()) -> SplitReply:
    """Split a reply, whole or cut off, into thought and answer.

    Args:
        thought_open: whether the prompt had opened a thought; None if unknown. A reply without any marker does not
            show it, and is then all answer.
        thoughts: markers in addition to the published ones, see `thoughts_of_template`.
    """
    found = _by_markers(text, thought_open, thoughts)
    if not found.marked:
        found = _by_words(text, thought_open) or found
    if not found.marked and thought_open is None and _ends_in_closing(text):
        return SplitReply("", text, cut=True, marked=True, thought_open=True)
    if has_unknown(found.answer):
        return SplitReply(text, cut=found.cut, marked=True, thought_open=thought_open, unsure=True)
    return found


def _by_markers(text: str, thought_open: bool | None, thoughts: Sequence[Thought]) -> SplitReply:
    parts: list[tuple[bool, str]] = []  # whether each is a thought, and its text
    start, thought, inside, closed = 0, None, bool(thought_open), False
    for border in borders(text, thoughts):
        is_nested = border.thought is not None and border.thought.nested and border.thought != thought
        if is_nested and (inside or border.kind == "closing"):  # a thought within the thought
            continue
        parts.append((inside, text[start : border.start]))
        if thought_open is None and len(parts) == 1:
            thought_open = _shown_by(border, before=without_headers(text[: border.start]))
        if border.kind == "answer" or (border.kind == "closing" and not inside and not closed):
            parts = [(True, part) for _, part in parts]  # a thought that the prompt opened, or another channel
        if border.kind == "opening":
            thought = thought if inside else border.thought
            inside = True
        else:
            inside, closed = False, True
        start = border.end
    parts.append((inside, text[start:]))
    spoken = [at for at, (is_thought, part) in enumerate(parts) if not is_thought and part.strip()]
    others = [without_headers(part) for at, (_, part) in enumerate(parts) if at not in spoken[-1:]]
    return SplitReply(
        answer=parts[spoken[-1]][1] if spoken else "",
        thought="\n\n".join(filter(None, others)),
        cut=inside,
        marked=len(parts) > 1,
        thought_open=thought_open,
    )


def _shown_by(first: Border, before: str) -> bool | None:
    """Return whether the first marker of a reply shows that the prompt had opened a thought, or had not."""
    if first.kind == "opening":
        return None if before else False
    return first.kind == "closing" or bool(before)


_HEADERS = re.compile(r"\A\s*(?:<\|start\|>)?assistant\s*\Z|(?:<\|end\|>)?\s*(?:<\|start\|>\s*assistant[^<]*)?\Z")
"""What Harmony writes between two messages."""


def without_headers(part: str) -> str:
    """Return a message without what Harmony writes before and after it."""
    return _HEADERS.sub("", part).strip()


# What is left of channels and thoughts after special tokens were dropped in decoding.
_BARE_OPENING = re.compile(r"\A\s*(?:assistant)?(?:analysis|commentary)(?=[^\s:：=.,、。;')\]}）】」-])")
_BARE_ANSWER = re.compile(r"assistantfinal(?:\s*json(?=\s*[{\[]))?|\A\s*final(?=[^\W\d_a-z]|[【*{\[(\\])")
_BARE_THOUGHT = re.compile(r"\A\s*thought\n")


def _by_words(text: str, thought_open: bool | None) -> SplitReply | None:
    """Split a reply whose markers were dropped in decoding, by the words of the markers; None if it has none."""
    opening = _BARE_OPENING.match(text)
    answers = list(_BARE_ANSWER.finditer(text))
    shown = thought_open if thought_open is not None else not opening and bool(answers and answers[-1].start())
    if answers:
        thought = text[opening.end() if opening else 0 : answers[-1].start()]
        return SplitReply(text[answers[-1].end() :], thought.strip(), marked=True, thought_open=shown)
    if opening:
        return SplitReply("", text[opening.end() :].strip(), cut=True, marked=True, thought_open=shown)
    if not thought_open and _BARE_THOUGHT.match(text):  # the end of the thought is lost
        return SplitReply(text, marked=True, thought_open=thought_open, unsure=True)
    return None


_PARTS_OF_CLOSINGS = tuple(
    sorted(
        {
            each.closing[:n].casefold()
            for each in PUBLISHED
            if "think" in each.closing.casefold()
            for n in range(5, len(each.closing))
        }
    )
)  # five characters, because "</th" may also begin "</th>"


def _ends_in_closing(text: str) -> bool:
    """Return whether a text was cut off within a marker at the end of a thought."""
    return text.translate(_NARROW).casefold().endswith(_PARTS_OF_CLOSINGS)
