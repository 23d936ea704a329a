"""Custom instructions and conversations: which tokens are trained, for every form of chat template."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from jmedllm.errors import InputError
from jmedllm.evaluation.benchmarks.custom import ReadOptions
from jmedllm.evaluation.prompts.render import Instruction
from jmedllm.models.chat import ChatTemplate
from jmedllm.models.tokenizer.encoding import encode
from jmedllm.training.examples import conversation_samples
from jmedllm.training.instructions import Conversation, read_instruction_file, read_instructions
from jmedllm.training.packing import TrainingSample, pack_examples
from jmedllm.training.turns import training_chat

EOS = "<|endoftext|>"
LOOP = "{% for m in messages %}"
ASK = "{% if add_generation_prompt %}"
# Forms of template in use, in our own words: name -> (template, markers, what is trained of TALK).
TEMPLATES = {
    "marks around every turn": (
        LOOP
        + "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        + ASK
        + "<|im_start|>assistant\n{% endif %}",
        ["<|im_start|>", "<|im_end|>"],
        ["壊血病です。<|im_end|>", "Vitamin C.<|im_end|>" + EOS],
    ),
    "headers, words stripped": (
        LOOP
        + "<|head|>{{ m.role }}<|/head|>\n\n{{ m.content | trim }}<|eot|>{% endfor %}"
        + ASK
        + "<|head|>assistant<|/head|>\n\n{% endif %}",
        ["<|head|>", "<|/head|>", "<|eot|>"],
        ["壊血病です。<|eot|>", "Vitamin C.<|eot|>" + EOS],
    ),
    "brackets, EOS after a space": (
        LOOP + "{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
        "{% elif m.role == 'assistant' %} {{ m.content }} {{ eos_token }}{% else %}{{ m.content }}\n{% endif %}"
        "{% endfor %}",
        [],
        [" 壊血病です。 " + EOS, " Vitamin C. " + EOS],
    ),
    "the next user's mark ends a turn": (
        LOOP + "<|{{ m.role }}|>\n{{ m.content }}\n{% endfor %}" + ASK + "<|assistant|>\n{% endif %}",
        ["<|user|>", "<|assistant|>", "<|system|>"],
        ["壊血病です。" + EOS, "Vitamin C." + EOS],  # "。\n" is one token, which no evaluated reply ends with
    ),
    "sections of plain text": (
        LOOP + "### {{ m.role }}:\n{{ m.content }}\n\n{% endfor %}" + ASK + "### assistant:\n{% endif %}",
        [],
        ["壊血病です。" + EOS, "Vitamin C." + EOS],
    ),
    "plain words end a turn": (
        LOOP + "{{ m.role }}: {{ m.content }}\n[END]\n{% endfor %}" + ASK + "assistant: {% endif %}",
        [],
        [" 壊血病です。\n[END]" + EOS, " Vitamin C.\n[END]" + EOS],
    ),
    "an empty thought before the last answer": (
        LOOP + "<|im_start|>{{ m.role }}\n{% if loop.last and m.role == 'assistant' %}<think>\n\n</think>\n\n"
        "{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}"
        + ASK
        + "<|im_start|>assistant\n<think>\n\n</think>\n\n{% endif %}",
        ["<|im_start|>", "<|im_end|>"],
        ["壊血病です。<|im_end|>" + EOS, "Vitamin C.<|im_end|>" + EOS],  # each behind its own empty thought
    ),
}
TALK = [
    {"role": "system", "content": "You are 医師."},
    {"role": "user", "content": "ビタミンCの欠乏は?"},
    {"role": "assistant", "content": "壊血病です。"},
    {"role": "user", "content": "壊血病です。 What helps?"},  # the assistant's very words, said by the user
    {"role": "assistant", "content": "Vitamin C."},
]


def trained_runs(tokenizer: Any, sample: TrainingSample) -> list[str]:
    runs: list[list[int]] = [[]]
    for token, wanted in zip(sample.ids, sample.loss_mask, strict=True):
        if wanted:
            runs[-1].append(token)
        elif runs[-1]:
            runs.append([])
    return [tokenizer.decode(run) for run in runs if run]


@pytest.fixture(scope="module")
def qwen2(shared: Path) -> Any:
    file = shared / "tokenizers" / "qwen2" / "tokenizer.json"
    return PreTrainedTokenizerFast(tokenizer_file=str(file), eos_token=EOS)


@pytest.fixture(scope="module")
def llm_jp(shared: Path) -> Any:
    return AutoTokenizer.from_pretrained(shared / "tokenizers" / "llm-jp-v2.2")


def with_template(tokenizer: Any, template: str | None, markers: list[str]) -> Any:
    tokenizer.add_special_tokens({"additional_special_tokens": markers})
    tokenizer.chat_template = template
    return tokenizer


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_assistant_s_turns_are_trained_and_no_others(qwen2: Any, name: str) -> None:
    template, markers, expected = TEMPLATES[name]
    tokenizer = with_template(qwen2, template, markers)
    samples = conversation_samples(training_chat(ChatTemplate(tokenizer)), "n", TALK)
    assert [run for sample in samples for run in trained_runs(tokenizer, sample)] == expected
    for sample, talk in zip(samples, [TALK[: 3 + 2 * (place + 2 > len(samples))] for place in range(2)], strict=False):
        whole = tokenizer.apply_chat_template(talk, tokenize=False)
        # The tokens of the text up to the end of the turn; a line feed after that belongs to no turn.
        text = tokenizer.decode(sample.ids[:-1])
        assert sample.ids[:-1] in encode(tokenizer, [text]) and whole.removesuffix(EOS).startswith(text)
        assert sample.ids[-1] == tokenizer.eos_token_id and sample.loss_mask[-1]


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_tokenizer_with_characters_of_several_bytes_is_masked_as_well(llm_jp: Any, name: str) -> None:
    template, markers, _ = TEMPLATES[name]
    tokenizer = with_template(llm_jp, template, markers)
    talk = [{"role": "user", "content": "何?"}, {"role": "assistant", "content": "𠮷野の🩺は咳嗽を聴く"}]
    [sample] = conversation_samples(training_chat(ChatTemplate(tokenizer)), "n", talk)
    [run] = trained_runs(tokenizer, sample)
    assert "𠮷野の🩺は咳嗽を聴く" in run and "何" not in run
    assert sample.ids[-1] == tokenizer.eos_token_id and sample.loss_mask[-1]
    assert sample.ids.count(tokenizer.bos_token_id) <= 1


WORDS = st.text(st.sampled_from("ab .\n。壊血病ビ𠮷é<|>"), min_size=1, max_size=8).filter(lambda text: text.strip())


@given(question=WORDS, first=WORDS, last=WORDS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_said_is_trained_whole(qwen2: Any, question: str, first: str, last: str) -> None:
    template, markers, _ = TEMPLATES["marks around every turn"]
    tokenizer = with_template(qwen2, template, markers)
    talk = [
        {"role": "user", "content": question},
        {"role": "assistant", "content": first},
        {"role": "user", "content": question},
        {"role": "assistant", "content": last},
    ]
    [sample] = conversation_samples(training_chat(ChatTemplate(tokenizer)), "n", talk)
    # Where words begin with line feeds, the header's own may share a token with them.
    runs = [run.lstrip("\n") for run in trained_runs(tokenizer, sample)]
    wanted = [f"{first}<|im_end|>", f"{last}<|im_end|>{EOS}"]
    assert runs == [text.lstrip("\n") for text in wanted]


# template, what is wrong with it
REFUSED = [
    (
        "{{ raise_exception('no system role') }}",
        "message 3: the model's chat template refuses this conversation: no system",
    ),
    (
        LOOP + "{{ m.content | upper if m.role == 'assistant' else m.content }}{% endfor %}",
        "message 5: the model's chat template rewrites the assistant's",
    ),
    ("{{ messages[0].content }}", "message 3: the model's chat template leaves out or rewrites what the user says"),
]


@pytest.mark.parametrize(("template", "message"), REFUSED)
def test_a_template_that_cannot_be_followed_is_refused(tiny_model: Path, template: Any, message: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.chat_template = template
    with pytest.raises(InputError, match=f"custom.jsonl:3: {message}"):
        conversation_samples(training_chat(ChatTemplate(tokenizer)), "custom.jsonl:3", TALK)


def test_a_conversation_survives_packing(tiny_model: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.chat_template = TEMPLATES["sections of plain text"][0]
    samples = conversation_samples(training_chat(ChatTemplate(tokenizer)), "n", TALK)
    blocks = pack_examples([*samples, *samples], 512, 0)
    assert tokenizer.decode(blocks.ids[blocks.loss_mask]) == f"壊血病です。{EOS}Vitamin C.{EOS}" * 2


def test_conversations_and_instructions_are_read_from_one_file(tmp_path: Path) -> None:
    path = tmp_path / "custom.jsonl"
    rows = [{"instruction": "Hi", "output": "x"}, {"messages": TALK, "id": 7}, {"messages": TALK[3:]}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    items = list(read_instructions(path))
    assert items[1] == Conversation(f"{path}:2", tuple(TALK))
    assert [item.language for item in items] == ["en", "ja", "ja"]
    assert Conversation("n", tuple(TALK[4:])).language == "en"


USER, ASSISTANT = ({"role": role, "content": "a"} for role in ("user", "assistant"))
# value of messages, and the error
BROKEN = [
    ("hello", "field 'messages' must be a list of objects with role and content"),
    ([], "field 'messages' must be a list of objects with role and content"),
    (["a"], "field 'messages' must be a list of objects with role and content"),
    ([USER, {"role": "bot", "content": "a"}], "message 2: role must be one of system, user, assistant"),
    ([USER, {"role": "assistant"}], "message 2: content must be a text that is not empty"),
    ([USER, {"role": "assistant", "content": " \n"}], "message 2: content must be a text that is not empty"),
    ([USER, ASSISTANT, USER], "the last message must be from the assistant, because it is trained"),
]


@pytest.mark.parametrize(("messages", "message"), BROKEN)
def test_a_broken_conversation_is_named(tmp_path: Path, messages: Any, message: str) -> None:
    path = tmp_path / "custom.jsonl"
    path.write_text(json.dumps({"messages": [USER, ASSISTANT]}) + "\n" + json.dumps({"messages": messages}))
    with pytest.raises(InputError) as error:
        list(read_instructions(path))
    assert str(error.value) == f"{path}:2: {message}"


SHAREGPT = [{"from": "human", "value": "何?"}, {"from": "gpt", "value": "壊血病。"}]
SAID = ({"role": "user", "content": "何?"}, {"role": "assistant", "content": "壊血病。"})
SYSTEM_TURN = {"role": "system", "content": "Be brief."}
SHARED: dict[str, tuple[dict[str, Any], tuple[dict[str, str], ...]]] = {
    "human and gpt": ({"conversations": SHAREGPT}, SAID),
    "its own system turn": (
        {"conversations": [{"from": "system", "value": "Be brief."}, *SHAREGPT]},
        (SYSTEM_TURN, *SAID),
    ),
    "a system field": ({"conversations": SHAREGPT, "system": "Be brief."}, (SYSTEM_TURN, *SAID)),
    "an empty system field": ({"conversations": SHAREGPT, "system": ""}, SAID),
    "user and assistant": (
        {"conversations": [{"from": "user", "value": "何?"}, {"from": "assistant", "value": "壊血病。"}]},
        SAID,
    ),
    "role and content": ({"conversations": list(SAID)}, SAID),
    "from and value under messages": ({"messages": SHAREGPT}, SAID),
}


@pytest.mark.parametrize("case", SHARED)
def test_conversations_of_sharegpt_are_read(tmp_path: Path, case: str) -> None:
    row, expected = SHARED[case]
    path = tmp_path / "custom.json"
    path.write_text(json.dumps([row]), encoding="utf-8")
    assert list(read_instructions(path)) == [Conversation(f"{path}: entry 1", expected)]


BROKEN_SHAREGPT = [
    ({"conversations": [*SHAREGPT, {"from": "function_call", "value": "f()"}]}, "message 3: from must be one of"),
    ({"conversations": [*SHAREGPT, SHAREGPT[0]]}, "the last message must be from the assistant"),
    ({"conversations": [SHAREGPT[0], {"from": "gpt", "value": None}]}, "message 2: value must be a text"),
    ({"conversations": "hello"}, "field 'conversations' must be a list of objects with from and value"),
    ({"conversations": SHAREGPT, "messages": list(SAID)}, "has both messages and conversations; remove one"),
    ({"conversations": [{"from": "system", "value": "x"}, *SHAREGPT], "system": "y"}, "field 'system' must be"),
]


@pytest.mark.parametrize(("row", "printed"), BROKEN_SHAREGPT)
def test_a_broken_conversation_of_sharegpt_is_named(tmp_path: Path, row: dict[str, Any], printed: str) -> None:
    path = tmp_path / "custom.jsonl"
    path.write_text(json.dumps({"conversations": SHAREGPT}) + "\n" + json.dumps(row) + "\n", encoding="utf-8")
    with pytest.raises(InputError) as error:
        list(read_instructions(path))
    assert f"{path}:2: {printed}" in str(error.value)


def test_bad_rows_are_named_together_or_skipped_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "custom.jsonl"
    rows: list[dict[str, Any]] = [{"instruction": "Hi", "output": "x"}, {"instruction": "Hi"}, {"messages": []}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + "{\n", encoding="utf-8")
    with pytest.raises(InputError) as error:
        list(read_instructions(path))
    printed = str(error.value).split("\n")
    assert printed[0].startswith("3 rows are invalid; ") and "skip_invalid: true in a recipe" in printed[0]
    assert [line.split(": ")[0] for line in printed[1:]] == [f"{path}:{number}" for number in (2, 3, 4)]
    found = read_instruction_file(path, ReadOptions(skip_invalid=True))
    assert (len(found.items), found.skipped) == (1, 3)


@pytest.mark.parametrize(
    ("row", "printed"),
    [
        ({"instruction": "a", "output": "b", "system": "Be brief."}, "field 'system': an instruction cannot have"),
        ({"instruction": "a", "output": "b", "history": [["c", "d"]]}, "field 'history': an instruction cannot"),
        ({"instruction": "a", "messages": list(SAID)}, "has both instruction and messages; remove one"),
        (
            {"messages": [USER, {**ASSISTANT, "tool_calls": [{}]}]},
            "message 2: tool_calls is not supported in training",
        ),
        ({"messages": [USER, {**ASSISTANT, "weight": 0}, USER, ASSISTANT]}, "message 2: weight is 0"),
        ({"messages": [USER, {**ASSISTANT, "train": False}, USER, ASSISTANT]}, "message 2: train is False"),
    ],
)
def test_what_would_change_what_is_learnt_is_not_dropped(tmp_path: Path, row: dict[str, Any], printed: str) -> None:
    path = tmp_path / "custom.jsonl"
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    with pytest.raises(InputError) as error:
        list(read_instructions(path))
    assert f"{path}:1: {printed}" in str(error.value)


def test_other_keys_are_noted_and_those_that_are_empty_are_not(tmp_path: Path) -> None:
    rows = [
        {"instruction": "a", "output": "b", "system": "", "history": [], "label": 3, "source": "x"},
        {"messages": [{**USER, "weight": 0}, {**ASSISTANT, "weight": 1}], "system": "Be brief.", "label": 4},
    ]
    path = tmp_path / "custom.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    found = read_instruction_file(path)
    assert found.notes == ("custom.jsonl: not read: label (rows: 2), source (rows: 1).",)
    assert found.items[1] == Conversation(f"{path}:2", (SYSTEM_TURN, USER, ASSISTANT))


MAPPED: dict[str, tuple[str, str, dict[str, str]]] = {
    "CSV": ("custom.csv", "q,a\n何?,壊血病。\n", {"instruction": "q", "output": "a"}),
    "JSON Lines": ("custom.jsonl", '{"q": "何?", "a": {"t": "壊血病。"}}', {"instruction": "q", "output": "a.t"}),
}


@pytest.mark.parametrize("case", MAPPED)
def test_instructions_are_read_by_a_mapping(tmp_path: Path, case: str) -> None:
    file, content, columns = MAPPED[case]
    (tmp_path / file).write_text(content, encoding="utf-8")
    [item] = read_instructions(tmp_path / file, ReadOptions(tuple(columns.items())))
    assert isinstance(item, Instruction) and (item.instruction, item.output) == ("何?", "壊血病。")


@pytest.mark.parametrize(
    ("row", "printed"),
    [
        ({"prompt": "a", "response": "b"}, "map: {instruction: prompt,output: response} in mpeft"),
        ({"dialogue": []}, '"dialogue" is called "messages" here'),
    ],
)
def test_names_that_others_use_are_answered_with_ours(tmp_path: Path, row: dict[str, Any], printed: str) -> None:
    path = tmp_path / "custom.jsonl"
    path.write_text(json.dumps(row), encoding="utf-8")
    with pytest.raises(InputError) as error:
        list(read_instructions(path))
    assert printed in str(error.value) and "\n" not in str(error.value)


# What a template writes before an answer in a conversation or in an evaluation, but not in both; what is trained.
THOUGHT = "<think>\n\n</think>\n\n"
OPEN = "{% if m.role == 'assistant' and loop.last %}" + THOUGHT + "{% endif %}"
MARKED = "<|im_start|>{{ m.role }}\n" + OPEN + "{{ m.content }}<|im_end|>\n{% endfor %}"
PLAIN = "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
SWITCH = "{% if enable_thinking is defined and not enable_thinking %}" + THOUGHT + "{% endif %}"
ASKED = ASK + "<|im_start|>assistant\n"
SYSTEM = "{% if add_generation_prompt %}<|im_start|>system\nBe brief.<|im_end|>\n{% endif %}"
SAID_SO = "壊血病。<|im_end|>"
DIFFERENT = {
    "an empty thought only in training": (LOOP + MARKED + ASKED + "{% endif %}", SAID_SO),
    "an empty thought only in the evaluation": (LOOP + PLAIN + ASKED + THOUGHT + "{% endif %}", SAID_SO),
    "a system line only in the evaluation": (SYSTEM + LOOP + PLAIN + ASKED + "{% endif %}", SAID_SO),
    "no header in the evaluation": (LOOP + PLAIN, "<|im_start|>assistant\n" + SAID_SO),
    "a channel only in training": (
        LOOP + "<|im_start|>{{ m.role }}{% if m.role == 'assistant' %}<|channel|>final{% endif %}<|message|>"
        "{{ m.content }}<|im_end|>{% endfor %}" + ASK + "<|im_start|>assistant{% endif %}",
        "<|channel|>final<|message|>" + SAID_SO,
    ),
}
SECRET = [{"role": "user", "content": "田中太郎の病名は?"}, {"role": "assistant", "content": "壊血病。"}]


@pytest.mark.parametrize("case", DIFFERENT)
def test_a_reply_is_trained_after_the_prompt_of_an_evaluation(tiny_model: Path, case: str) -> None:
    template, expected = DIFFERENT[case]
    tokenizer = with_template(AutoTokenizer.from_pretrained(tiny_model), template, ["<|im_start|>", "<|im_end|>"])
    chat = ChatTemplate(tokenizer)
    [sample] = conversation_samples(training_chat(chat), "custom.jsonl:3", SECRET)
    [asked] = encode(tokenizer, [chat.prompt(SECRET[:1])])
    assert list(sample.ids[: len(asked)]) == asked and sample.loss_mask.index(True) == len(asked)
    assert tokenizer.decode(sample.ids[len(asked) :]) == expected + EOS


def test_a_prompt_that_opens_a_thought_needs_one(tiny_model: Path) -> None:
    template = LOOP + PLAIN + ASKED + "<think>\n{% endif %}"
    tokenizer = with_template(AutoTokenizer.from_pretrained(tiny_model), template, ["<|im_start|>", "<|im_end|>"])
    chat = training_chat(ChatTemplate(tokenizer))
    with pytest.raises(InputError) as error:
        conversation_samples(chat, "custom.jsonl:3", SECRET)
    printed = str(error.value)
    assert printed.startswith("custom.jsonl:3: message 2: the chat template opens a thought before the answer")
    assert "prompt.thinking: off" in printed and "\n" not in printed
    assert "田中" not in printed and "壊血病" not in printed
    [sample] = conversation_samples(chat, "n", [SECRET[0], {**SECRET[1], "reasoning_content": "歯肉"}])
    assert tokenizer.decode(sample.ids).endswith(f"<think>\n歯肉\n</think>\n\n{SAID_SO}{EOS}")


def test_a_variable_of_the_template_makes_both_agree(tiny_model: Path) -> None:
    template = LOOP + MARKED + ASKED + SWITCH + "{% endif %}"
    tokenizer = with_template(AutoTokenizer.from_pretrained(tiny_model), template, ["<|im_start|>", "<|im_end|>"])
    chat = ChatTemplate(tokenizer, {"enable_thinking": False})
    for talk in (SECRET, TALK):  # in TALK the template drops the thought of the earlier answer
        samples = conversation_samples(training_chat(chat), "n", talk)
        turns = [place for place, message in enumerate(talk) if message["role"] == "assistant"]
        for sample, index in zip(samples, turns, strict=True):
            [prompt] = encode(tokenizer, [chat.prompt(talk[:index])])
            assert sample.ids[: len(prompt)] == prompt and sample.loss_mask.index(True) == len(prompt)
