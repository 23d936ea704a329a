"""A chat in the terminal, and questions from a pipe."""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from jmedllm.errors import InputError
from jmedllm.files import to_json, write_atomic
from jmedllm.output import visible
from jmedllm.serving.choices import MOST_ANSWERS, Layout, MultipleChoiceQuestion, find_choices, question_prompt
from jmedllm.serving.client import ChatClient, ServedName

NOT_A_DEVICE = "not a medical device; check every answer (医療機器ではありません)"

_SAMPLING: Mapping[str, Callable[[str], float]] = {
    "temperature": float,
    "top_p": float,
    "top_k": int,
    "min_p": float,
    "seed": int,
    "max_tokens": int,
}
"""Settings of /set, and how each is read."""

_BAR = 24
_UNCALIBRATED = "probabilities among these choices; not calibrated: 90 % does not mean right 9 times out of 10"


@dataclass
class Turn:
    """A question with its answer.

    Attributes:
        content: the question, as the model gets it.
        question: its choices, if it has any.
        answer: the answer; what was written of it if it was stopped.
        thought: the thought before it.
        shares: probability of each answer, if the answer is restricted to choices.
        finish_reason: `stop`, `length`, or None if it was stopped here.
        tokens: number of tokens of thought and answer.
    """

    content: str
    question: MultipleChoiceQuestion | None = None
    answer: str = ""
    thought: str = ""
    shares: Mapping[str, float] = field(default_factory=dict)
    finish_reason: str | None = None
    tokens: int | None = None


@dataclass
class Conversation:
    """A chat with a server.

    Attributes:
        client: the server.
        model: its model.
        system: system prompt; empty for none.
        sampling: fields of requests, such as `temperature`; the server has its own values for others.
        thinking: whether the model thinks, if its template lets it be switched; None for the template's own way.
    """

    client: ChatClient
    model: ServedName
    system: str = ""
    sampling: dict[str, float] = field(default_factory=dict)
    thinking: bool | None = None
    turns: list[Turn] = field(default_factory=list)

    def body(self, turn: Turn) -> dict[str, Any]:
        """Return the request for an answer. A question with choices is asked by itself."""
        earlier = [] if turn.question or not self.model.has_template else self.turns
        messages = [{"role": "system", "content": self.system}] if self.system and self.model.has_template else []
        for each in (turn for turn in earlier if turn.answer):
            messages += [{"role": "user", "content": each.content}, {"role": "assistant", "content": each.answer}]
        body: dict[str, Any] = {
            "model": self.model.name,
            "messages": [*messages, {"role": "user", "content": turn.content}],
        }
        body |= self.sampling
        if self.thinking is not None and self.model.thinking is not None:
            body["chat_template_kwargs"] = {self.model.thinking: self.thinking}
        if turn.question:
            _, answers = question_prompt(turn.question, self.layout)
            body |= {"structured_outputs": {"choice": answers}, "logprobs": True}
        return body

    @property
    def layout(self) -> Layout:
        """The layout of questions with choices that suits the model."""
        return "letter" if self.model.has_template else "plain"

    def ask(self, turn: Turn, show: Callable[[str, bool], None]) -> None:
        """Ask, and write the answer into the turn while it comes.

        Args:
            turn: the question.
            show: called with each piece of text, and whether it is thought.

        Raises:
            InputError: see `ChatClient.answer`.
        """
        with closing(self.client.answer(self.body(turn))) as parts:
            for part in parts:
                turn.thought += part.thought
                turn.answer += part.text
                turn.finish_reason = part.finish_reason or turn.finish_reason
                turn.tokens = part.tokens or turn.tokens
                if part.choices is not None:
                    turn.shares = {text: math.exp(logprob) for text, logprob in part.choices.items()}
                for text, is_thought in ((part.thought, True), (part.text, False)):
                    if text:
                        show(text, is_thought)


@dataclass(frozen=True)
class Terminal:
    """Where people read and write.

    Attributes:
        read: returns the next line after a prompt; EOFError at the end.
        write: writes text at once.
        is_dim: whether thoughts are dimmed.
    """

    read: Callable[[str], str]
    write: Callable[[str], None]
    is_dim: bool = False

    def show(self, text: str, is_thought: bool) -> None:
        """Write a piece of an answer."""
        self.write(f"\x1b[2m{visible(text)}\x1b[0m" if is_thought and self.is_dim else visible(text))

    def line(self, text: str) -> None:
        """Write a line of our own."""
        self.write(f"{text}\n")


def converse(conversation: Conversation, terminal: Terminal) -> None:
    """Chat until the end of the input, /quit, or Ctrl-C twice."""
    terminal.line(f"{visible(conversation.model.name)}: {NOT_A_DEVICE}")
    if not conversation.model.has_template:
        terminal.line("this model has no chat template: it continues your text, one question at a time")
    terminal.line("/help lists the commands; Ctrl-C stops an answer, twice ends")
    is_interrupted = False
    while True:
        try:
            line = terminal.read("> ").strip()
            is_interrupted = False
            if line.startswith("/"):
                name, _, rest = line[1:].partition(" ")
                if name == "quit":
                    return
                _run(name, rest.strip(), conversation, terminal)
            elif line:
                answer(Turn(line), conversation, terminal)
        except InputError as error:
            terminal.line(f"error: {visible(str(error))}")
        except EOFError:
            terminal.line("")
            return
        except KeyboardInterrupt:
            if is_interrupted:
                terminal.line("")
                return
            is_interrupted = True
            terminal.line("\n(Ctrl-C again ends; /quit, too)")


def answer(turn: Turn, conversation: Conversation, terminal: Terminal) -> None:
    """Ask a question and show the answer. Ctrl-C stops it and keeps what was written."""
    thought = False

    def show(text: str, is_thought: bool) -> None:
        nonlocal thought
        if thought and not is_thought:
            terminal.write("\n\n")
        thought = is_thought
        if is_thought or not turn.question:
            terminal.show(text, is_thought)

    started = time.monotonic()
    try:
        conversation.ask(turn, show)
    except KeyboardInterrupt:
        if turn.answer:
            conversation.turns.append(turn)
        terminal.line("\n(stopped)")
        return
    conversation.turns.append(turn)
    if turn.question:
        _show_shares(turn, turn.question, conversation.layout, terminal)
    seconds = time.monotonic() - started
    rate = f", {turn.tokens / seconds:.1f} tokens/s" if turn.tokens and seconds and not turn.question else ""
    cut = "; cut at the limit of tokens, see /set max_tokens" if turn.finish_reason == "length" else ""
    terminal.line(f"\n({seconds:.1f} s{rate}{cut})")


def _show_shares(turn: Turn, question: MultipleChoiceQuestion, layout: Layout, terminal: Terminal) -> None:
    """Show the probability of each possible answer, in the order of the question."""
    terminal.line(f"answer: {visible(turn.answer) or 'none'}")
    _, texts = question_prompt(question, layout)
    for answer, text in zip(question.answers, texts, strict=True):
        if text in turn.shares:
            share = turn.shares[text]
            name = " + ".join(f"{label}. {words}" for label, words in (question.choices[index] for index in answer))
            terminal.line(f"{100 * share:5.1f} %  {'#' * round(_BAR * share):<{_BAR}}  {visible(name)}")
    if turn.shares:
        terminal.write(_UNCALIBRATED)


def answer_lines(
    conversation: Conversation, lines: Iterable[str], write: Callable[[str], None], *, as_json: bool
) -> None:
    """Answer each line of a pipe by itself.

    Args:
        conversation: the server and the settings.
        lines: questions; empty ones are skipped.
        write: writes text at once.
        as_json: whether to write a JSON object for each question, rather than the text of its answer.

    Raises:
        InputError: see `ChatClient.answer`.
    """
    for line in lines:
        content = line.rstrip("\r\n")
        if not content.strip():
            continue
        turn = Turn(content)
        alone = replace(conversation, turns=[])
        alone.ask(turn, lambda text, is_thought: None if is_thought or as_json else write(visible(text)))
        if as_json:
            fields = ("answer", "thought", "finish_reason", "tokens")
            write(to_json({"question": content, **{name: getattr(turn, name) for name in fields}}))
        write("\n")


def _run(name: str, rest: str, conversation: Conversation, terminal: Terminal) -> None:
    if name not in COMMANDS:
        raise InputError(f"/{name[:40]}: no such command; /help lists them")
    COMMANDS[name][1](rest, conversation, terminal)


def _help(_: str, conversation: Conversation, terminal: Terminal) -> None:
    for name, (text, _run) in COMMANDS.items():
        terminal.line(f"/{name:<12}{text}")
    terminal.line("/quit        ends")


def _system(rest: str, conversation: Conversation, terminal: Terminal) -> None:
    conversation.system = rest
    terminal.line("system prompt: " + (visible(rest) or "none"))


def _set(rest: str, conversation: Conversation, terminal: Terminal) -> None:
    name, _, value = rest.partition(" ")
    if name == "thinking" and value in ("on", "off"):
        if conversation.model.thinking is None:
            raise InputError("/set thinking: the template of this model has no switch for it")
        conversation.thinking = value == "on"
    elif name in _SAMPLING:
        set_sampling(conversation, name, value)
    elif rest:
        raise InputError(f"/set {rest[:40]}: give one of {', '.join(_SAMPLING)} with a number, or thinking on or off")
    values = [f"{each} {value:g}" for each, value in conversation.sampling.items()]
    if conversation.thinking is not None:
        values.append("thinking on" if conversation.thinking else "thinking off")
    terminal.line(", ".join(values) or "the server's settings")


def set_sampling(conversation: Conversation, name: str, value: str) -> None:
    """Change a setting; an empty value gives it back to the server.

    Raises:
        InputError: the value is not a number.
    """
    conversation.sampling.pop(name, None)
    if not value:
        return
    try:
        number = _SAMPLING[name](value)
    except ValueError as error:
        raise InputError(f"/set {name}: takes a number; found {value[:40]!r}") from error
    if not math.isfinite(number):
        raise InputError(f"/set {name}: takes a number; found {value[:40]!r}")
    conversation.sampling[name] = number


def _regenerate(_: str, conversation: Conversation, terminal: Terminal) -> None:
    if not conversation.turns:
        raise InputError("/regenerate: there is no question yet")
    *earlier, last = conversation.turns
    conversation.turns.pop()
    try:
        answer(Turn(last.content, last.question), conversation, terminal)
    finally:
        if len(conversation.turns) == len(earlier):  # there is no new answer
            conversation.turns.append(last)


def _exam(_: str, conversation: Conversation, terminal: Terminal) -> None:
    terminal.line("paste a question with its choices; an empty line ends it")
    lines = []
    while line := terminal.read("").rstrip():
        lines.append(line)
    question = find_choices("\n".join(lines))
    if len(question.choices) < 2:
        raise InputError("/exam: no choices found; put each on a line of its own, such as: a. ...")
    if len(question.answers) > MOST_ANSWERS:
        raise InputError(f"/exam: {len(question.answers)} possible answers; at most {MOST_ANSWERS}")
    found = "; ".join(f"{label}. {text}" for label, text in question.choices)
    terminal.line(visible(f"{len(question.choices)} choices, choose {question.select}: {found}"))
    if question.rest:
        terminal.line(f"left out: {visible(question.rest)}")
    prompt, _answers = question_prompt(question, conversation.layout)
    answer(Turn(prompt, question), conversation, terminal)


def _save(rest: str, conversation: Conversation, terminal: Terminal) -> None:
    if not rest:
        raise InputError("/save: give a file, such as: /save chat.md")
    parts = [f"# {conversation.model.name}", f"*{NOT_A_DEVICE}*"]
    for turn in conversation.turns:
        shares = [f"* {text}: {100 * share:.1f} %" for text, share in turn.shares.items()]
        parts += ["## Question", turn.content, "## Answer", turn.answer, *(["\n".join(shares)] if shares else [])]
    write_atomic(Path(rest).expanduser(), "\n\n".join(parts) + "\n")
    terminal.line(f"wrote: {visible(rest)}")


def _clear(_: str, conversation: Conversation, terminal: Terminal) -> None:
    conversation.turns.clear()
    terminal.line("a new chat")


COMMANDS: Mapping[str, tuple[str, Callable[[str, Conversation, Terminal], None]]] = {
    "help": ("lists the commands", _help),
    "system": ("sets the system prompt: /system You are a nurse.", _system),
    "set": (f"sets {', '.join(_SAMPLING)} or thinking: /set temperature 0.7", _set),
    "regenerate": ("answers the last question again", _regenerate),
    "exam": ("answers a pasted question with its choices, with probabilities", _exam),
    "save": ("writes the chat to a file that only you can read: /save chat.md", _save),
    "clear": ("begins a new chat", _clear),
}
"""Commands by name: what each does, and its function."""
