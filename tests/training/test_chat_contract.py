"""For every chat template, the token ids of an evaluated prompt and the reply are those that are trained."""

import re
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from jmedllm.errors import InputError
from jmedllm.models.backends.base import Request
from jmedllm.models.backends.completion import Ends, ends_of
from jmedllm.models.chat import ChatTemplate, with_thought
from jmedllm.models.chat_format import Thinking, with_thinking
from jmedllm.models.thoughts import split_reply
from jmedllm.models.tokenizer.encoding import encode
from jmedllm.training.examples import conversation_samples
from jmedllm.training.packing import TrainingSample
from jmedllm.training.turns import TrainingChat, chat_turn, training_chat
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
Accepted = dict[Thinking, set[str]]
OPENS: Accepted = {"default": THOUGHTS, "on": THOUGHTS, "off": PLAIN}
WRITES: Accepted = {"default": BOTH, "on": BOTH, "off": PLAIN}
CLOSES: Accepted = {"default": PLAIN, "on": BOTH, "off": PLAIN}
EITHER: Accepted = {"default": BOTH, "on": BOTH, "off": BOTH}
NEVER: Accepted = {"default": PLAIN}
# Turns that can be trained with each template, for each setting of prompt.thinking.
ACCEPTED: dict[str, Accepted] = {
    **dict.fromkeys(("qwen3-thinking-2507", "qwen3.5", "deepseek-r1", "nemotron"), OPENS),
    **dict.fromkeys(("qwen3", "deepseek-r1-distill", "gpt-oss", "magistral", "seed-oss", "glm4.6"), WRITES),
    "gemma4": CLOSES,
    "deepseek-v3.1": {"default": PLAIN, "on": THOUGHTS, "off": PLAIN},
    **dict.fromkeys(("mistral-effort", "granite3.3"), EITHER),  # only a setting in the prompt says whether they think
    **dict.fromkeys(("qwen2", "gemma2", "gemma3", "mistral", "llama3", "swallow", "llm-jp", "smollm2"), NEVER),
}
THINKING = [name for name, accepted in ACCEPTED.items() if "on" in accepted]
WITHOUT_KEY = {"deepseek-r1", "deepseek-r1-distill", "deepseek-v3.1", "nemotron", "granite3.3"}
"""Templates that take no thought, so that its text follows from their markers."""

SHARING = {
    "qwen2", "qwen3", "gemma2", "gemma3", "llama3", "swallow", "llm-jp", "smollm2", "magistral", "seed-oss",
    "deepseek-r1-distill", "deepseek-v3.1", "mistral", "mistral-effort", "granite3.3",
}  # fmt: skip
"""Templates that write a plain turn as its prompt and reply were, once others follow."""


def with_markers(tokenizer: Any, name: str) -> Any:
    """A tokenizer with a template, whose markers are tokens."""
    source = TEMPLATES[name].read_text(encoding="utf-8")
    tokenizer.add_special_tokens({"additional_special_tokens": sorted(set(MARKER.findall(source)))})
    tokenizer.chat_template = source
    return tokenizer


def chat_with(tokenizer: Any, thinking: Thinking) -> tuple[TrainingChat, Ends]:
    template = with_thinking(ChatTemplate(tokenizer, date="2026-11-30"), thinking)
    return training_chat(template), ends_of(tokenizer)


@cache
def chat_of(name: str, thinking: Thinking) -> tuple[TrainingChat, Ends]:
    return chat_with(with_markers(byte_level(), name), thinking)


def samples_of(chat: TrainingChat, talk: str) -> list[TrainingSample]:
    return conversation_samples(chat, "talk.jsonl:3", TALKS[talk])


def in_use(chat: TrainingChat, messages: list[Any]) -> str:
    """The prompt of an evaluation, as each backend gets it."""
    key, given = chat.format.thought.key if chat.format.thought else None, []
    for message in messages:
        plain, said = {key: message[key] for key in ("role", "content")}, message.get("reasoning_content")
        given.append(with_thought(plain, said, key) if said and key else plain)
    return Request("1", chat.template.prompt(given)).text


def check(chat: TrainingChat, ends: Ends, talk: str) -> None:
    """Compare what is trained with prompts, replies and ends that are encoded one by one."""
    tokenizer, end, messages = chat.template.tokenizer, chat.format.turn_end.text, TALKS[talk]
    samples, trained = samples_of(chat, talk), 0
    for index in (index for index, message in enumerate(messages) if message["role"] == "assistant"):
        prompt = in_use(chat, messages[:index])
        reply = chat.format.reply(messages[index]["content"], messages[index].get("reasoning_content"))
        read = split_reply(
            reply, thought_open=chat.format.prompt_thought == "open", thoughts=chat.format.markers
        )  # as an evaluation reads it
        assert read.answer.strip() == messages[index]["content"]
        assert read.thought == messages[index].get("reasoning_content", "")
        [asked] = encode(tokenizer, [prompt])
        # Some templates write a space or a line feed before an answer, which no prompt ends with.
        spellings = encode(tokenizer, [prompt + space + reply + end for space in ("", " ", "\n")])
        found = [
            (sample, whole)
            for whole, sample in product(spellings, samples)
            if list(sample.ids[: len(whole)]) == whole and sample.loss_mask[len(asked)]
        ]
        assert len(found) == 1, (prompt, reply)
        sample, whole = found[0]
        assert whole[: len(asked)] == asked
        assert not sample.loss_mask[len(asked) - 1] and all(sample.loss_mask[len(asked) : len(whole)])
        trained += len(whole) - len(asked)
        assert ends.reached(tokenizer, whole if end else sample.ids)
    assert all(sample.ids[-1] == tokenizer.eos_token_id for sample in samples)
    appended = 0 if end.endswith(tokenizer.eos_token) else len(samples)
    assert sum(sum(sample.loss_mask) for sample in samples) == trained + appended


def expected_refusal(name: str, kinds: set[str], talk: str) -> str | None:
    """Part of the message if a conversation cannot be trained."""
    said = (message for message in TALKS[talk] if message["role"] == "assistant")
    has = {"thought" if "reasoning_content" in message else "plain" for message in said}
    if name == "gemma2" and talk == "a system message":
        return "no system message"
    if "thought" in has - kinds:
        return "closes the thought before the answer|has no place for a thought"
    return "opens a thought before the answer, but there is none" if has - kinds else None


def check_all(name: str, thinking: Thinking, chat: TrainingChat, ends: Ends) -> None:
    for talk in TALKS:
        refusal = expected_refusal(name, ACCEPTED[name][thinking], talk)
        if refusal is None:
            check(chat, ends, talk)
            continue
        with pytest.raises(InputError, match=rf"^talk\.jsonl:3: message \d: [^\n]*{refusal}"):
            samples_of(chat, talk)


def test_every_template_is_in_the_table() -> None:
    assert set(ACCEPTED) == set(TEMPLATES)


@pytest.mark.parametrize("name", ACCEPTED)
def test_the_ids_of_a_prompt_and_its_reply_are_trained(name: str) -> None:
    for thinking in ACCEPTED[name]:
        check_all(name, thinking, *chat_of(name, thinking))


@pytest.mark.exhaustive
@pytest.mark.parametrize(("name", "real"), product(ACCEPTED, ("qwen2", "llm-jp-v2.2")))
def test_real_tokenizers_do_the_same(shared: Path, name: str, real: str) -> None:
    folder = shared / "tokenizers" / real
    tokenizer = (
        AutoTokenizer.from_pretrained(folder)
        if (folder / "tokenizer_config.json").exists()
        else PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), eos_token="<|endoftext|>")
    )
    if tokenizer.bos_token is None:
        tokenizer.bos_token = tokenizer.eos_token
    with_markers(tokenizer, name)
    for thinking in ACCEPTED[name]:
        check_all(name, thinking, *chat_with(tokenizer, thinking))


@pytest.mark.parametrize("name", ACCEPTED)
def test_turns_share_a_sample_where_the_template_keeps_them(name: str) -> None:
    thinking = next(key for key, kinds in ACCEPTED[name].items() if "plain" in kinds)
    assert len(samples_of(chat_of(name, thinking)[0], "two turns")) == (1 if name in SHARING else 2)


@pytest.mark.parametrize("name", ["qwen2", "gemma2", "gemma3", "mistral", "llama3", "swallow", "llm-jp", "smollm2"])
def test_an_answer_to_a_prompt_is_what_the_template_writes(name: str) -> None:
    """With the space that Mistral and Llama 2 write before an answer, which choices have as well."""
    chat, _ = chat_of(name, "default")
    prompt, reply = chat_turn(chat, chat.template.prompt([USER]), ANSWER["content"])
    assert chat.template.conversation([USER, ANSWER]).startswith(prompt + reply + chat.closing)
    opening = chat.format.opening_of_an_answer
    assert Request("1", chat.template.prompt([USER]), answer_opening=opening).answer_prompt == prompt + opening
    assert opening == (" " if name in ("mistral", "swallow") else "")


def trained_text(sample: TrainingSample, tokenizer: Any) -> str:
    trained = [token for token, wanted in zip(sample.ids, sample.loss_mask, strict=True) if wanted]
    return str(tokenizer.decode(trained))


@pytest.mark.parametrize("name", THINKING)
def test_a_masked_thought_is_context_of_the_answer(name: str) -> None:
    chat = chat_of(name, "on")[0]
    for talk in ("one thought", "two thoughts"):
        trained, masked = samples_of(chat, talk), samples_of(replace(chat, reasoning="mask"), talk)
        assert [sample.ids for sample in trained] == [sample.ids for sample in masked]
        for sample, said in zip(trained, masked, strict=True):
            text, answers = (trained_text(each, chat.template.tokenizer) for each in (sample, said))
            assert "歯肉" in text or "補えば" in text
            assert "歯肉" not in answers and "補えば" not in answers
            assert answers.startswith((ANSWER["content"], LAST["content"]))


@pytest.mark.parametrize("name", THINKING)
def test_a_thought_is_trained_as_the_template_writes_it(name: str) -> None:
    """A template that takes thoughts writes the same text for the whole conversation, as other trainers render it."""
    chat = chat_of(name, "on")[0]
    assert chat.format.thought is not None
    assert (chat.format.thought.key is None) == (name in WITHOUT_KEY)
    if chat.format.thought.key is None:
        return
    whole = chat.template.conversation([USER, with_thought(dict(ANSWER), THOUGHT, chat.format.thought.key)])
    [sample] = samples_of(chat, "one thought")
    text = chat.template.tokenizer.decode(sample.ids)
    assert whole.startswith(text.removesuffix(chat.template.tokenizer.eos_token)) and whole.strip() in text
