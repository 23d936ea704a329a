"""A thought that reaches its budget is closed as the chat template closes it, and the answer is written."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from jmedllm.models.backends.base import Completion, GenerationConfig, Request
from jmedllm.models.backends.completion import Ends
from jmedllm.models.backends.transformers.model import TransformersModel, load_model
from jmedllm.models.backends.transformers.replies import Decoder, Reply, closing_tokens
from jmedllm.models.chat import ChatTemplate
from jmedllm.models.chat_format import ChatFormat, chat_format
from jmedllm.models.thoughts import thoughts_of_template
from jmedllm.models.tokenizer.encoding import encode
from jmedllm.precision import choose_precision
from small_tokenizers import byte_level

TEMPLATES = Path(__file__).parents[2] / "templates"
END = "<end>"
THOUGHT = "Fever and a stiff neck. 髄膜炎か。"


def scripted(name: str, thought: str, budget: int | None, *, after: str = "", closed: bool = True) -> Completion:
    """The completion of a model that writes a thought and an answer; `after` follows a thought that was closed."""
    tokenizer = byte_level()
    tokenizer.chat_template = (TEMPLATES / f"{name}.jinja").read_text(encoding="utf-8")
    template = ChatTemplate(tokenizer, {"enable_thinking": True} if name == "gemma4" else {}, "2026-11-30")
    shape: ChatFormat = chat_format(template)
    assert shape.thought is not None
    config = GenerationConfig(400, thinking_budget=budget, thought_closing=shape.thought.closing)
    ends = Ends(frozenset({tokenizer.convert_tokens_to_ids(END)}))
    markers = thoughts_of_template(tokenizer.chat_template)
    decoder = Decoder(tokenizer, ends, config, markers, closing_tokens(tokenizer, config))
    prompt = template.prompt([{"role": "user", "content": "Q"}])
    whole = f"{shape.thought.opening}{thought}{shape.thought.closing if closed else ''}c{END}"
    reply = decoder.reply(encode(tokenizer, [prompt])[0], prompt, 0)
    return written(decoder, reply, encode(tokenizer, [whole])[0], encode(tokenizer, [f"{after}{END}"])[0])


def written(decoder: Decoder, reply: Reply, script: list[int], after: list[int]) -> Completion:
    while reply.finish_reason is None:
        said = reply.generated - (reply.closed_at or 0)
        source = script if reply.closed_at is None else after
        token = source[min(said, len(source) - 1)]
        decoder.extend([reply], torch.nn.functional.one_hot(torch.tensor([token]), len(decoder.tokenizer)).float())
    return decoder.completion(reply)


NAMES = (
    *("qwen3.5", "gpt-oss", "gemma4"),
    *(
        pytest.param(name, marks=pytest.mark.exhaustive)
        for name in ("qwen3", "deepseek-r1", "magistral", "seed-oss", "granite3.3")
    ),
)
"""Templates whose prompts open the thought, with channels, and with a marker of their own; the others are alike."""


@pytest.mark.parametrize("name", NAMES)
def test_a_thought_at_its_budget_is_closed_as_the_template_closes_it(name: str) -> None:
    whole = scripted(name, THOUGHT, None)
    forced = scripted(name, THOUGHT, 40, after="b")
    assert not whole.forced and whole.text.count("髄膜炎") == 1 and whole.text.endswith("c")
    tokenizer = byte_level()
    closing = whole.text.removesuffix("c").rpartition("か。")[2]
    [begun] = [tokenizer.decode(encode(tokenizer, [whole.text])[0][:40])]
    assert (forced.text, forced.forced, forced.finish_reason) == (f"{begun}{closing}b", True, "stop")
    assert (forced.reasoning_tokens, forced.new_tokens) == (40, 42)


@pytest.mark.parametrize("name", NAMES)
def test_a_thought_within_its_budget_is_left_alone(name: str) -> None:
    free = scripted(name, THOUGHT, None)
    assert scripted(name, THOUGHT, 200, after="b") == free
    assert free.reasoning_tokens is not None and 40 < free.reasoning_tokens < free.new_tokens
    tokens = encode(byte_level(), [free.text])[0]
    assert byte_level().decode(tokens[free.reasoning_tokens :]).strip() == "c"


@pytest.mark.parametrize("name", NAMES)
def test_a_thought_that_ends_at_its_budget_is_not_closed_again(name: str) -> None:
    free = scripted(name, THOUGHT, None)
    assert free.reasoning_tokens is not None
    assert scripted(name, THOUGHT, free.reasoning_tokens, after="b") == free
    assert scripted(name, THOUGHT, free.reasoning_tokens - 1, after="b").forced


def test_what_closes_a_thought_may_contain_the_end_of_a_turn() -> None:
    """As in Harmony, if the end of each message were one."""
    tokenizer = byte_level()
    config = GenerationConfig(60, thinking_budget=10, thought_closing="<end><turn>")
    ends = Ends(frozenset({tokenizer.convert_tokens_to_ids(END)}))
    decoder = Decoder(tokenizer, ends, config, (), closing_tokens(tokenizer, config))
    reply = Reply([5], thought_open=True)
    found = written(decoder, reply, encode(tokenizer, ["a" * 30])[0], encode(tokenizer, [f"b{END}"])[0])
    assert (found.text, found.finish_reason) == (f"{'a' * 10}<end><turn>b", "stop")


def test_a_thought_that_is_cut_is_all_reasoning() -> None:
    cut = scripted("qwen3.5", "か" * 200, None, closed=False)
    assert cut.truncated and cut.reasoning_tokens == cut.new_tokens == 400


def test_a_reply_without_a_thought_has_no_budget() -> None:
    tokenizer = byte_level()
    config = GenerationConfig(60, thinking_budget=10, thought_closing="\n</think>\n\n")
    decoder = Decoder(tokenizer, Ends(), config, (), closing_tokens(tokenizer, config))
    answer = written(decoder, decoder.reply([5], "Q", 0), encode(tokenizer, ["Answer: b. " * 20])[0], [])
    assert (answer.forced, answer.reasoning_tokens, answer.new_tokens) == (False, None, 60)
    late = encode(tokenizer, ["Answer, then <think> more"])[0]
    closed = written(decoder, decoder.reply([5], "Q", 0), late, encode(tokenizer, ["b"])[0])
    assert closed.forced and closed.text.startswith("Answer, then <think>\n</think>\n\nb")


def test_the_answer_continues_the_closed_thought(tiny_model: Path) -> None:
    """As `generate` does after the prompt, the thought and its end; in a batch, and one by one."""
    model = load_model(tiny_model, choose_precision("float32", "cpu"))
    prompts = [f"{question}<think>\n" for question in ("Scurvy?", "壊血病になるのは", "Q")]
    requests = [Request(str(i), prompt, str(i), generate=True) for i, prompt in enumerate(prompts)]
    config = GenerationConfig(20, thinking_budget=6, thought_closing="\n</think>\n\n")
    closing = list(closing_tokens(model.tokenizer, config))
    joined = model
    alone = replace(model, capabilities=replace(model.capabilities, longest_tree=0, joining=False))
    for each in (joined, replace(joined, batch_size=2), alone):
        for index, response in each.answer(requests, config):
            [ids] = encode(model.tokenizer, [prompts[index]])
            thought = generated_ids(model, ids, 6)
            expected = thought + closing + generated_ids(model, ids + thought + closing, 14)
            found = response.completion
            assert found.text == model.tokenizer.decode(expected, skip_special_tokens=False)
            assert (found.forced, found.new_tokens, found.reasoning_tokens) == (True, 20, 6)


def generated_ids(model: TransformersModel, ids: list[int], tokens: int) -> list[int]:
    output = model.network.generate(torch.tensor([ids]), do_sample=False, max_new_tokens=tokens, pad_token_id=0)
    return output[0, len(ids) :].tolist()


def test_early_stop_does_not_read_an_answer_inside_an_opened_thought(tiny_model: Path) -> None:
    model = load_model(tiny_model, choose_precision("float32", "cpu"))
    seen: list[Completion] = []
    config = GenerationConfig(30, is_final=lambda completion: bool(seen.append(completion)))
    model.network.get_output_embeddings().weight.data[model.tokenizer.convert_tokens_to_ids("Ċ")] *= 3
    list(model.answer([Request("1", "Q<think>\n", generate=True)], config))
    assert not seen
    list(model.answer([Request("1", "Q\n", generate=True)], config))
    assert seen
