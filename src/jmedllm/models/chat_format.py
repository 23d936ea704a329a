"""The behavior of a chat template as a plain value, found by rendering it.

Nothing is looked up by the name of a model: each fact is a difference between two rendered texts. Prompts, training
labels, stop conditions, the reading of replies and serving all use this value.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from jmedllm.errors import InputError
from jmedllm.models.chat import (
    THOUGHT_KEYS,
    ChatTemplate,
    Message,
    Messages,
    TurnEnd,
    turn_end,
    undeclared_variables,
    with_needed_system,
    with_thought,
)
from jmedllm.models.sandbox import TemplateLimitError
from jmedllm.models.thoughts import PUBLISHED, Thought, borders, leaves_thought_open, thoughts_of_template

Thinking = Literal["on", "off", "default"]
Effort = Literal["low", "medium", "high"]
EFFORTS: tuple[Effort, ...] = get_args(Effort)

PromptThought = Literal["open", "closed", "absent"]
"""What a generation prompt does with a thought: it opens one, it ends with an empty one, or it contains neither."""

Switch = Literal["on", "off"]

_QUESTION, _ANSWER, _THOUGHT, _SYSTEM, _NONSENSE = "\ue000", "\ue001", "\ue002", "\ue003", "\ue004"
"""Private characters, which no template contains."""

_SYSTEM_LINES = (("/think", "/no_think"), ("detailed thinking on", "detailed thinking off"))
"""Lines of a system message that switch thinking on and off in some templates."""

_OFF: tuple[Any, ...] = (False, "none", 0, "false", "off", "disabled", "no_think")
_ON: tuple[Any, ...] = (True, "high", "true", "on", "enabled", "think")
"""Values of variables that switch thinking off and on."""

_WORDS = ("think", "reason", "effort")
"""Parts of the names of variables that control thinking."""


@dataclass(frozen=True, slots=True)
class TemplateSetting:
    """What to give a template so that it behaves in one way.

    Attributes:
        variables: values of the template's variables.
        system: line of the system message; empty if none is needed.
        closing: text to append to the generation prompt of a template without a switch, such as an empty thought.
    """

    variables: Mapping[str, Any] = field(default_factory=dict)
    system: str = ""
    closing: str = ""


@dataclass(frozen=True, slots=True)
class ThoughtFormat:
    """How a reply with a thought is written after the generation prompt.

    Attributes:
        opening: text before the thought; empty if the generation prompt has already opened it.
        closing: text between the thought and the answer.
        key: key of a message in which the template looks for the thought; None if it writes no thoughts, so that
            opening and closing follow from its markers.
        kept: whether the thoughts of earlier turns stay in the prompt.
    """

    opening: str
    closing: str
    key: str | None = None
    kept: bool = False


@dataclass(frozen=True, slots=True)
class ChatFormat:
    """The behavior of a chat template.

    Attributes:
        prompt_thought: what the generation prompt does with a thought.
        settings: how to switch thinking on and off; empty if the template shows no sign of thoughts.
        efforts: how to set the effort; empty if it cannot be.
        thought: how a reply with a thought is written; None if the template shows no sign of thoughts.
        answer_opening: text that a reply without a thought begins with, such as the header of a channel or a space.
        turn_end: what ends the turn of the assistant.
        takes_system: whether a system message is part of the prompt.
        must_alternate: whether the template refuses two user messages in a row.
        reads_date: whether the prompt contains today's date.
        markers: markers of thoughts that are not among the published ones.
    """

    prompt_thought: PromptThought = "absent"
    settings: Mapping[Switch, TemplateSetting] = field(default_factory=dict)
    efforts: Mapping[Effort, TemplateSetting] = field(default_factory=dict)
    thought: ThoughtFormat | None = None
    answer_opening: str = ""
    turn_end: TurnEnd = field(default_factory=TurnEnd)
    takes_system: bool = False
    must_alternate: bool = False
    reads_date: bool = False
    markers: tuple[Thought, ...] = ()

    @property
    def thinks(self) -> bool:
        """Whether the model thinks before it answers, as far as the generation prompt decides it."""
        if self.prompt_thought == "absent":
            return self.thought is not None and self.settings.get("on") == TemplateSetting()
        return self.prompt_thought == "open"

    @property
    def opening_of_an_answer(self) -> str:
        """Text between the generation prompt and an answer without a thought."""
        if self.prompt_thought == "open" and self.thought is not None:
            return self.thought.closing
        return self.answer_opening

    def reply(self, answer: str, thought: str | None = None) -> str:
        """Return the text of a reply as the model is to write it after the generation prompt, without its end.

        Raises:
            InputError: the answer has a thought, but the template shows no sign of thoughts or the prompt has closed
                it, or it contains its own end; or the answer has no thought, but the prompt has opened one.
        """
        if not thought:
            if self.prompt_thought == "open":
                raise InputError(
                    "the chat template opens a thought before the answer, but there is none here; set "
                    "prompt.thinking: off, or add reasoning_content to the message"
                )
            return self.answer_opening + answer
        if self.prompt_thought == "closed":
            raise InputError(
                "the chat template closes the thought before the answer, so a thought cannot be trained; set "
                "prompt.thinking: on, or remove reasoning_content"
            )
        if self.thought is None:
            raise InputError(
                "the chat template has no place for a thought; remove reasoning_content, or choose another base"
            )
        if not self.thought.opening and self.prompt_thought != "open":
            raise InputError(
                "the chat template opens a thought only with prompt.thinking: on; set it, or remove reasoning_content"
            )
        if (end := self.thought.closing.strip()) and end in thought:
            raise InputError(f"the thought contains {end!r}, which ends it; remove it")
        return self.thought.opening + thought.strip() + self.thought.closing + answer


def chat_format(template: ChatTemplate) -> ChatFormat:
    """Derive the behavior of a chat template with its variables, its system message and its date.

    Raises:
        InputError: there is no template, or it is broken.
    """
    template = with_needed_system(template)
    probe = _Probe(template)
    prompt = probe.prompt()
    known = ChatFormat(turn_end=turn_end(template), reads_date=template.reads_date, markers=probe.markers)
    state = probe.state(prompt)
    if prompt is None or state is None:  # it refuses even one question; the real messages get its refusal
        return known
    settings = _variable_settings(probe, prompt) or _system_settings(probe, prompt)
    thinking = probe.under(settings.get("on", TemplateSetting()))
    thought = _thought_format(thinking, thinking.prompt() or prompt)
    opening = _answer_opening(probe, prompt)
    if thought is not None:
        settings = _unswitched(state, thought, opening) | settings
    return replace(
        known,
        prompt_thought=state,
        settings=settings,
        efforts=_efforts(probe),
        thought=thought,
        answer_opening=opening,
        takes_system=_SYSTEM in (probe.prompt(_SYSTEM) or ""),
        must_alternate=probe.conversation([_user(), _user()]) is None,
    )


def _unswitched(state: PromptThought, thought: ThoughtFormat, answer_opening: str) -> dict[Switch, TemplateSetting]:
    """Switch thinking without a switch: an empty thought in the prompt, or the header of the answer, ends it.

    Nothing opens a thought that the prompt has closed.
    """
    if state == "closed":
        return {"off": TemplateSetting()}
    begun = "" if state == "open" else thought.opening
    header = answer_opening if answer_opening.strip() else ""
    return {"on": TemplateSetting(), "off": TemplateSetting(closing=header or begun + thought.closing)}


def with_thinking(template: ChatTemplate, thinking: Thinking, effort: Effort | None = None) -> ChatTemplate:
    """Return a template that switches thinking on or off and sets its effort.

    Raises:
        InputError: the template cannot be switched, or has no such effort; or another setting says the opposite.
    """
    if thinking == "default" and effort is None:
        return template
    found = chat_format(template)
    if thinking != "default":
        if thinking not in found.settings:
            with_needed_system(template).prompt([_user()])  # a template that refuses this says why
            signs = "closes each thought in the prompt" if found.thought else "shows no sign of thoughts"
            raise InputError(f"prompt.thinking: {thinking}: the model's chat template {signs}; leave it out")
        _require_agreement(template, f"prompt.thinking: {thinking}", found.settings[thinking])
        template = _under(template, found.settings[thinking])
    if effort is not None:
        if thinking == "off":
            raise InputError(f"prompt.effort: {effort}: with prompt.thinking: off there is no thought; leave one out")
        if effort not in found.efforts:
            known = f"it takes {', '.join(found.efforts)}" if found.efforts else "it has no effort to set"
            raise InputError(f"prompt.effort: {effort}: {known}, says the model's chat template; leave it out")
        _require_agreement(template, f"prompt.effort: {effort}", found.efforts[effort])
        template = _under(template, found.efforts[effort])
    return template


def _require_agreement(template: ChatTemplate, name: str, setting: TemplateSetting) -> None:
    """Check that the variables of a setting have no other value already.

    Raises:
        InputError: one has.
    """
    for variable, value in setting.variables.items():
        given = template.variables.get(variable, value)
        if given != value:
            raise InputError(f"{name}: template_args sets {variable} to {given!r}, not {value!r}; leave one out")


@dataclass(frozen=True, slots=True)
class _Probe:
    """Renders questions and answers of private characters; None stands for a refusal of the template."""

    template: ChatTemplate

    @property
    def markers(self) -> tuple[Thought, ...]:
        return thoughts_of_template(self.template.source)

    def under(self, setting: TemplateSetting) -> "_Probe":
        return _Probe(_under(self.template, setting))

    def given(self, name: str, value: Any) -> str | None:
        """Return the generation prompt if a variable has this value."""
        return self.under(TemplateSetting({name: value})).prompt()

    def prompt(self, system: str = "") -> str | None:
        messages = [{"role": "system", "content": system}] if system else []
        return self._try([*messages, _user()], self.template.prompt)

    def after(self, messages: Messages) -> str | None:
        return self._try(messages, self.template.prompt)

    def conversation(self, messages: Messages) -> str | None:
        return self._try(messages, self.template.conversation)

    def state(self, prompt: str | None) -> PromptThought | None:
        """Return what a generation prompt does with a thought; None for a refusal."""
        if prompt is None:
            return None
        if leaves_thought_open(prompt, self.markers):
            return "open"
        last = list(borders(prompt, self.markers))[-1:]
        ends = bool(last) and last[0].end == len(prompt.rstrip())
        return "closed" if ends and last[0].kind != "opening" else "absent"

    @staticmethod
    def _try(messages: Messages, render: Callable[[Messages], str]) -> str | None:
        try:
            return render(messages)
        except TemplateLimitError:
            raise
        except InputError:
            return None


def _user() -> Message:
    return {"role": "user", "content": _QUESTION}


def _under(template: ChatTemplate, setting: TemplateSetting) -> ChatTemplate:
    return replace(
        template,
        variables={**template.variables, **setting.variables},
        system="\n".join(filter(None, (setting.system, template.system))),
        closing=template.closing + setting.closing,
    )


def _variable_settings(probe: _Probe, prompt: str) -> dict[Switch, TemplateSetting]:
    """Find the variable that switches thinking.

    It changes what the prompt does with a thought; or it has a name about thinking, and its values change the text.
    """
    for name in sorted(undeclared_variables(probe.template.source)):
        echoes = _NONSENSE in (probe.given(name, _NONSENSE) or "")
        texts = [
            (value, text)
            for value in _OFF[:: -1 if "budget" in name else 1]
            if (text := probe.given(name, value)) is not None
        ]
        ons = [(value, text) for value in _ON if (text := probe.given(name, value)) is not None]
        closed = [each for each in texts if probe.state(each[1]) == "closed"]
        about = any(word in name.lower() for word in _WORDS) and not echoes
        for off, text in closed or (texts if about else []):
            others = [(None, prompt), *ons]
            on = next(
                (value for value, other in others if other != text and probe.state(other) != "closed"), _NONSENSE
            )
            if on != _NONSENSE:
                variables = {} if on is None else {name: on}
                return {"on": TemplateSetting(variables), "off": TemplateSetting({name: off})}
    return {}


def _system_settings(probe: _Probe, prompt: str) -> dict[Switch, TemplateSetting]:
    """Find the line of the system message that switches thinking."""
    for on, off in _SYSTEM_LINES:
        states = [probe.state(probe.prompt(line)) for line in (_SYSTEM, on, off)]
        if states[2] == "closed" and states[1] not in ("closed", None):
            needed = on if probe.state(prompt) == "closed" else ""
            return {"on": TemplateSetting(system=needed), "off": TemplateSetting(system=off)}
    return {}


def _efforts(probe: _Probe) -> dict[Effort, TemplateSetting]:
    """Find the variable that takes the efforts as words. A variable that is only true or false takes none."""
    for name in sorted(undeclared_variables(probe.template.source)):
        if not any(word in name.lower() for word in _WORDS):
            continue
        whenever_true = probe.given(name, True)
        texts = {effort: probe.given(name, effort) for effort in EFFORTS}
        taken = [effort for effort, text in texts.items() if text is not None and text != whenever_true]
        if taken and len({texts[effort] for effort in taken}) == len(taken):
            return {effort: TemplateSetting({name: effort}) for effort in taken}
    return {}


def _thought_format(probe: _Probe, prompt: str) -> ThoughtFormat | None:
    """Find how the template writes a thought; without a way to give it one, follow its markers."""
    for key in THOUGHT_KEYS:
        message = with_thought({"role": "assistant", "content": _ANSWER}, _THOUGHT, key)
        text = probe.conversation([_user(), message])
        if text is None or not text.startswith(prompt.rstrip(" ")):
            continue
        opening, found, rest = text[len(prompt.rstrip(" ")) :].partition(_THOUGHT)
        closing, answered, _ = rest.partition(_ANSWER)
        if found and answered:
            kept = _THOUGHT in (probe.after([_user(), message, _user()]) or "")
            return ThoughtFormat(opening, closing, key, kept)
    marker = _marker(probe, prompt)
    if marker is None:
        return None
    is_open = probe.state(prompt) == "open"
    line = "\n" * (prompt.endswith("\n") if is_open else marker.opening.startswith("<") and "|" not in marker.opening)
    return ThoughtFormat("" if is_open else marker.opening + line, line + marker.closing + 2 * line)


def _marker(probe: _Probe, prompt: str) -> Thought | None:
    """Return the markers of the thought that the prompt opens, else those that the template names."""
    if probe.state(prompt) == "open":
        last = list(borders(prompt, probe.markers))[-1:]
        return last[0].thought if last else None
    source = probe.template.source
    named = (each for each in (*probe.markers, *PUBLISHED) if not each.nested and each.closing in source)
    return next(named, None)


def _answer_opening(probe: _Probe, prompt: str) -> str:
    """Return what the template writes between the generation prompt and an answer, such as the header of a channel.

    An empty thought is left out, because it is not what the model writes after this prompt.
    """
    text = probe.conversation([_user(), {"role": "assistant", "content": _ANSWER}]) or ""
    opening = (
        text.removeprefix(prompt.rstrip(" ")).partition(_ANSWER)[0] if text.startswith(prompt.rstrip(" ")) else ""
    )
    thoughts = any(border.kind != "answer" for border in borders(opening, probe.markers))
    return "" if thoughts else opening
