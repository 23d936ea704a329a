"""Write a Jinja chat template as a Go template for Ollama, and check that both render the same texts.

No template is known by name. The text around each message is found by rendering: around the first, the last and the
other user messages, with and without a system message, for each way of thinking. The Go template chooses between
these texts. It is accepted if it renders conversations as the Jinja template does.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from jmedllm.deploy.ollama.choice import DATE, SYSTEM, Conditions, choice, literal, refusal, refused_if
from jmedllm.deploy.ollama.modes import Mode, modes
from jmedllm.deploy.ollama.same_text import INSTEAD, changes_white_space, require_same
from jmedllm.errors import InputError
from jmedllm.models.chat import ChatTemplate, Message, with_needed_system, with_thought
from jmedllm.models.chat_format import ChatFormat, chat_format
from jmedllm.models.thoughts import PUBLISHED

_THOUGHT = "\ue012"
_MARKS = ("\ue020", "\ue030", "\ue021", "\ue031", "\ue022")
"""Private characters that stand for the messages of three turns; no template contains them."""

_REFUSED_SYSTEM = {
    True: (".System", "the chat template of this model takes no system message"),
    False: ("not .System", "the chat template of this model needs a system message"),
}
_NO_TOOLS = "this Modelfile has no tools"
"""Tools are refused, not left out. Besides, Ollama 0.30 and later ignore a template that mentions no tools if the chat
template in the file does."""

_ROLES = ("system", "user", "assistant")

_DAY, _OTHER_DAY = "1987-06-05", "2031-02-04"
"""Dates on which templates that read the date are rendered."""


@dataclass(frozen=True, slots=True)
class GoTemplate:
    """A chat template for Ollama.

    Attributes:
        text: the template.
        conversations: number of conversations that it renders as the model's template does.
        notes: what differs all the same, one line each.
    """

    text: str
    conversations: int
    notes: tuple[str, ...]


def go_template(template: ChatTemplate, *, adds_bos: bool, today: str) -> GoTemplate:
    """Write a chat template for Ollama.

    Args:
        template: the model's template.
        adds_bos: whether llama.cpp puts BOS in front of each prompt, so that the template must not.
        today: date as YYYY-MM-DD for templates that write it in a form that Ollama cannot.

    Raises:
        InputError: no Go template of this kind renders the same texts; with the first difference.
    """
    found = chat_format(template)
    ways = modes(template, found)
    bos = str(template.tokenizer.bos_token or "") if adds_bos else ""
    if not template.reads_date:
        return _checked(ways, ways, found, bos)
    try:
        return _checked(_dated(ways, _DAY), _dated(ways, _OTHER_DAY), found, bos)
    except InputError:  # a difference that is not due to the date is found again
        checked = _checked(_dated(ways, today), _dated(ways, today), found, bos)
    note = f"the chat template writes today's date in a form that Ollama cannot; it is always that of {today}"
    return replace(checked, notes=(*checked.notes, note))


def _dated(ways: Sequence[Mode], day: str) -> list[Mode]:
    return [replace(mode, template=replace(mode.template, date=day)) for mode in ways]


def _checked(ways: Sequence[Mode], others: Sequence[Mode], found: ChatFormat, bos: str) -> GoTemplate:
    """Write a template, and check it against the same ways of thinking on another date."""
    text = _go_text(ways, found, bos)
    count = require_same(text, others, found, bos)
    notes = []
    if changed := [role for role in _ROLES if changes_white_space(text, others, role, bos)]:
        roles = " and ".join(changed)
        notes.append(f"the chat template changes white space at the ends of {roles} messages; Ollama does not")
    if "on" in found.settings and not found.thinks:
        notes.append("Ollama lets the model think unless a request says think: false; transformers does not")
    return GoTemplate(text, count, tuple(notes))


def _go_text(ways: Sequence[Mode], found: ChatFormat, bos: str) -> str:
    """Write the Go template: one loop over the messages, without white space of its own."""
    before, after, refused = _tables(ways)
    _without_bos(before, bos)
    markers = [token.content for token in ways[-1].template.tokenizer.added_tokens_decoder.values()]
    conditions = Conditions([mode.condition for mode in ways], markers)
    thought = _thought(ways[-1].template, found, after)
    opening, closing = choice(before, conditions), choice(after, conditions)
    user = f"{opening}{{{{ .Content }}}}{closing}" + "{{ $first = false }}" * ("$first" in opening + closing)
    texts = {"user": user, "assistant": f"{thought}{{{{ .Content }}}}"}
    refusals = [_REFUSED_SYSTEM[system] for system in refused]
    if any(word in ways[-1].template.source for word in ("tools", "tool_call")):
        texts |= {"assistant": refused_if(".ToolCalls", _NO_TOOLS) + texts["assistant"], "tool": refusal(_NO_TOOLS)}
        refusals.append((".Tools", _NO_TOOLS))
    branches = "{{ else if ".join(f'eq .Role "{role}" }}}}{text}' for role, text in texts.items())
    loop = f"{{{{ if {branches}{{{{ end }}}}{{{{ end }}}}"
    start = "".join(refused_if(*each) for each in refusals) + "{{ $first := true }}" * ("$first" in loop)
    if "$last" in loop:
        return f"{start}{{{{ range $i, $_ := .Messages }}}}{{{{ $last := eq (len (slice $.Messages $i)) 1 }}}}{loop}"
    return f"{start}{{{{ range .Messages }}}}{loop}"


def _tables(ways: Sequence[Mode]) -> tuple[dict[Any, str], dict[Any, str], set[bool]]:
    """Return the texts before and after user messages, and whether prompts with or without a system message are
    refused.

    Raises:
        InputError: the template refuses both.
    """
    before, after, refused = dict[Any, str](), dict[Any, str](), set[bool]()
    for system, (number, mode), count in product((True, False), enumerate(ways), (1, 2, 3)):
        around = _texts_around(mode.template, count, SYSTEM if system else "")
        if around is None:
            refused.add(system)
            continue
        for turn in {0, count - 1} if count < 3 else {1}:
            key = (turn == 0, system, turn == count - 1, number)
            before[key], after[key] = around[2 * turn], around[2 * turn + 1]
    if len(refused) == 2:
        ways[-1].template.prompt([{"role": "user", "content": "?"}])  # the template says why
        raise InputError(f"ollama: the chat template refuses conversations of several turns; {INSTEAD}")
    complete = [{key: text for key, text in each.items() if key[1] not in refused} for each in (before, after)]
    return complete[0], complete[1], refused


def _texts_around(template: ChatTemplate, count: int, system: str) -> list[str] | None:
    """Render a conversation with `count` user messages, and return the texts before, between and after the messages;
    None if the template refuses it.

    Raises:
        InputError: the template writes a message twice, or in another order.
    """
    messages: list[Message] = [{"role": "system", "content": system}] if system else []
    marks = _MARKS[: 2 * count - 1]
    messages += [{"role": ("user", "assistant")[number % 2], "content": mark} for number, mark in enumerate(marks)]
    try:
        text = template.prompt(messages)
    except InputError:
        return None
    texts, rest = list[str](), text.replace(_DAY, DATE) if template.date == _DAY else text
    for mark in marks:
        first, found, rest = rest.partition(mark)
        if not found or mark in rest:
            raise InputError(f"ollama: the chat template writes messages twice or in another order; {INSTEAD}")
        texts.append(first)
    return [*texts, rest]


def _without_bos(before: dict[Any, str], bos: str) -> None:
    """Remove BOS from the beginning of prompts, where llama.cpp puts it.

    Raises:
        InputError: a prompt has none, so that the model would read one that it did not have in training.
    """
    for key in [key for key in before if key[0] and bos]:
        if not before[key].startswith(bos):
            raise InputError(
                f"ollama: the file begins each prompt with {bos} (tokenizer.ggml.add_bos_token), and the chat "
                f"template does not; {INSTEAD}"
            )
        before[key] = before[key].removeprefix(bos)


def _thought(template: ChatTemplate, found: ChatFormat, after: dict[Any, str]) -> str:
    """Write the thought of an assistant message, from which Ollama learns the markers of thoughts in answers.

    Most templates leave out the thoughts of earlier turns. Then only an answer that is being continued has one. Where
    they stay, a message without a thought may have an empty one; it is moved here from the text `after` the question.
    """
    if found.thought is None:
        return ""
    opening, closing = found.thought.opening, found.thought.closing
    if not opening:  # the prompt ends with it
        named = (each.opening for each in (*found.markers, *PUBLISHED) if each.closing == closing.strip())
        opening = next(named, "") + "\n" * closing.startswith("\n")
    if not (found.thought.kept and found.thought.key):
        return f"{{{{ if and $last .Thinking }}}}{literal(opening)}{_SAID_THOUGHT}{literal(closing)}{{{{ end }}}}"
    question, answer, following = _MARKS[:3]
    said = with_thought({"role": "assistant", "content": answer}, _THOUGHT, found.thought.key)
    messages = [{"role": "user", "content": question}, said, {"role": "user", "content": following}]
    text = with_needed_system(template).prompt(messages).partition(question)[2].partition(answer)[0]
    before, _, closing = text.partition(_THOUGHT)
    start = before.rfind(opening.strip())
    empty = next(text for key, text in after.items() if not key[2])[start:]
    for key in [key for key in after if not key[2]]:
        after[key] = after[key].removesuffix(empty)
    otherwise = f"{{{{ else }}}}{literal(empty)}" * bool(empty)
    return f"{{{{ if .Thinking }}}}{literal(before[start:])}{_SAID_THOUGHT}{literal(closing)}{otherwise}{{{{ end }}}}"


_SAID_THOUGHT = "{{ .Thinking }}"
