"""For every chat template, the token ids of an evaluated prompt and the reply are those that are trained."""

import re
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from jmedllm.errors import InputError
from jmedllm.models.backends.base import Request
from jmedllm.models.backends.completion import ends_of
from jmedllm.models.chat import ChatTemplate, with_thought
from jmedllm.models.chat_format import Thinking, chat_format, with_thinking
from jmedllm.models.tokenizer.encoding import encode
from jmedllm.training.examples import conversation_samples
from jmedllm.training.packing import TrainingSample
from jmedllm.training.turns import Reasoning, training_chat
from small_tokenizers import byte_level

TEMPLATES = {path.stem: path for path in (Path(__file__).parents[1] / "templates").glob("*.jinja")}
MARKER = re.compile(r"<[|｜/]?[\w:▁｜|]+[|｜]?>|\[/?[A-Z_]+\]")
USER = {"role": "user", "content": "ビタミンCの欠乏は?"}
ANSWER = {"role": "assistant", "content": "壊血病です。"}
THOUGHT = "歯肉の出血を考える。"
THINKS = ANSWER | {"reasoning_content": THOUGHT}
AGAIN = {"role": "user", "content": "治療は?"}
LAST = {"role": "assistant", "content": "補充する。"}
TALKS = {
    "one turn": [USER, ANSWER],
    "one thought": [USER, THINKS],
    "two turns": [USER, ANSWER, AGAIN, LAST],
    "two thoughts": [USER, THINKS, AGAIN, LAST | {"reasoning_content": "補えばよい。"}],
    "a thought, then none": [USER, THINKS, AGAIN, LAST],
    "a system message": [{"role": "system", "content": "短く。"}, USER, ANSWER],
}
BOTH, PLAIN, THOUGHTS = {"plain", "thought"}, {"plain"}, {"thought"}
OPENS: dict[Thinking, set[str]] = {"default": THOUGHTS, "on": THOUGHTS, "off": PLAIN}
WRITES: dict[Thinking, set[str]] = {"default": BOTH, "on": BOTH, "off": PLAIN}
EITHER: dict[Thinking, set[str]] = {"default": BOTH, "on": BOTH, "off": BOTH}
NEVER: dict[Thinking, set[str]] = {"default": PLAIN}
CLOSES: dict[Thinking, set[str]] = {"default": PLAIN, "on": BOTH, "off": PLAIN}
# Turns that can be trained for each template and each setting of prompt.thinking.
ACCEPTED: dict[str, dict[Thinking, set[str]]] = {
    **dict.fromkeys(("qwen3-thinking-2507", "qwen3.5", "deepseek-r1", "nemotron"), OPENS),
    **dict.fromkeys(("qwen3", "deepseek-r1-distill", "gpt-oss", "magistral", "seed-oss"), WRITES),
    "gemma4": CLOSES,
    "deepseek-v3.1": {"default": PLAIN, "on": THOUGHTS, "off": PLAIN},
    **dict.fromkeys(("mistral-effort", "granite3.3"), EITHER),  # only a setting in the prompt says whether they think
    **dict.fromkeys(("qwen2", "gemma2", "gemma3", "mistral", "llama3", "swallow", "llm-jp", "smollm2"), NEVER),
}


def expected_refusal(name: str, kinds: set[str], talk: str) -> str | None:
    """Part of the message if a conversation cannot be trained."""
    said = (message for message in TALKS[talk] if message["role"] == "assistant")
    has = {"thought" if "reasoning_content" in message else "plain" for message in said}
    if name == "gemma2" and talk == "a system message":
        return "no system message"
    if "thought" in has - kinds:
        return "closes the thought before the answer|has no place for a thought"
    return "opens a thought before the answer, but there is none" if has - kinds else None


def with_markers(tokenizer: Any, path: Path) -> Any:
    """A tokenizer with a template, whose markers are tokens."""
    source = path.read_text(encoding="utf-8")
    tokenizer.add_special_tokens({"additional_special_tokens": sorted(set(MARKER.findall(source)))})
    tokenizer.chat_template = source
    return tokenizer


def samples_of(template: ChatTemplate, talk: list[Any], reasoning: Reasoning = "train") -> list[TrainingSample]:
    return conversation_samples(training_chat(template, reasoning), "talk.jsonl:3", talk)


def in_use(template: ChatTemplate, messages: list[Any]) -> str:
    """The prompt of an evaluation, as each backend gets it."""
    thought = chat_format(template).thought
    given = []
    for message in messages:
        plain = {key: message[key] for key in ("role", "content")}
        said = message.get("reasoning_content")
        given.append(with_thought(plain, said, thought.key) if said and thought and thought.key else plain)
    return Request("1", template.prompt(given)).text


def check(template: ChatTemplate, talk: list[Any]) -> None:
    """Compare what is trained with prompts, replies and ends that are encoded one by one."""
    tokenizer, found = template.tokenizer, chat_format(template)
    samples = samples_of(template, talk)
    trained = 0
    for index in (index for index, message in enumerate(talk) if message["role"] == "assistant"):
        prompt = in_use(template, talk[:index])
        reply = found.reply(talk[index]["content"], talk[index].get("reasoning_content"))
        [asked] = encode(tokenizer, [prompt])
        spellings = [encode(tokenizer, [prompt + space + reply + found.turn_end.text])[0] for space in ("", " ")]
        holding = [
            (sample, whole)
            for whole in spellings
            for sample in samples
            if list(sample.ids[: len(whole)]) == whole and sample.loss_mask[len(asked)]
        ]
        assert len(holding) == 1, (prompt, reply)
        sample, whole = holding[0]
        assert whole[: len(asked)] == asked
        assert not sample.loss_mask[len(asked) - 1] and all(sample.loss_mask[len(asked) : len(whole)])
        assert sample.loss_mask[len(whole) : len(whole) + 1] in ([], [True], [False])
        trained += len(whole) - len(asked)
        ends = ends_of(tokenizer)
        assert ends.reached(tokenizer, whole[len(asked) :] if found.turn_end.text else sample.ids)
    appended = sum(
        sample.ids[-1] == tokenizer.eos_token_id and not found.turn_end.text.endswith(tokenizer.eos_token)
        for sample in samples
    )
    assert sum(sum(sample.loss_mask) for sample in samples) == trained + appended
    assert all(sample.ids[-1] == tokenizer.eos_token_id for sample in samples)


@pytest.mark.parametrize("name", ACCEPTED)
def test_the_ids_of_a_prompt_and_its_reply_are_trained(name: str) -> None:
    plain = ChatTemplate(with_markers(byte_level(), TEMPLATES[name]), date="2026-11-30")
    for (thinking, kinds), talk in product(ACCEPTED[name].items(), TALKS):
        template = with_thinking(plain, thinking)
        refusal = expected_refusal(name, kinds, talk)
        if refusal is None:
            check(template, TALKS[talk])
            continue
        with pytest.raises(InputError, match=rf"^talk\.jsonl:3: message \d: [^\n]*{refusal}"):
            samples_of(template, TALKS[talk])
