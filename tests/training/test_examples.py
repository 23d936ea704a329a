"""What is trained of documents, questions and instructions: the answer and its end, and no more."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Fast
from tokenizers.models import BPE
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from jmedllm.corpus.documents import Document
from jmedllm.errors import InputError
from jmedllm.evaluation.benchmarks import load
from jmedllm.evaluation.prompts.format import PromptFormat, ask, ask_instruction
from jmedllm.evaluation.prompts.pack import load_pack
from jmedllm.evaluation.prompts.render import answer_text
from jmedllm.evaluation.question import Question
from jmedllm.models.chat import ChatTemplate
from jmedllm.models.tokenizer.encoding import encode
from jmedllm.training.examples import conversation_samples, document_samples, example_sample
from jmedllm.training.instructions import read_instructions
from jmedllm.training.packing import TrainingSample, pack_examples
from jmedllm.training.turns import training_chat

T, F = True, False
EOS = "<|endoftext|>"


@pytest.fixture(scope="module")
def qwen2(shared: Path) -> Any:
    file = shared / "tokenizers" / "qwen2" / "tokenizer.json"
    return PreTrainedTokenizerFast(tokenizer_file=str(file), eos_token=EOS)


@pytest.fixture(scope="module")
def small() -> Any:
    """Three letters; "ab" is joined; BOS and EOS are added by default."""
    fast = Fast(BPE({"<s>": 0, "</s>": 1, "a": 2, "b": 3, "ab": 4, "x": 5}, [("a", "b")]))
    fast.add_special_tokens(["<s>", "</s>"])
    ends = [("<s>", 0), ("</s>", 1)]
    fast.post_processor = TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    return PreTrainedTokenizerFast(tokenizer_object=fast, bos_token="<s>", eos_token="</s>")


def trained(sample: TrainingSample) -> list[int]:
    return [token for token, wanted in zip(sample.ids, sample.loss_mask, strict=True) if wanted]


@pytest.mark.parametrize(
    ("prompt", "answer", "ids", "wanted"),
    [
        ("x", "a", [0, 5, 2, 1], [F, F, T, T]),
        ("x", "ab", [0, 5, 4, 1], [F, F, T, T]),
        ("xa", "x", [0, 5, 2, 5, 1], [F, F, F, T, T]),
        ("xa", "b", [0, 5, 4, 1], [F, F, T, T]),  # the token across the border is learnt as the exam reads it
        ("x", "", [0, 5, 1], [F, F, T]),
        ("<s>x", "a", [0, 5, 2, 1], [F, F, T, T]),
        ("x", "a</s>", [0, 5, 2, 1, 1], [F, F, T, T, T]),
    ],
)
def test_answer_and_end_are_trained(small: Any, prompt: str, answer: str, ids: list[int], wanted: list[bool]) -> None:
    assert example_sample(small, "n", prompt, answer) == TrainingSample("n", ids, wanted)


@pytest.mark.parametrize(
    ("text", "ids"),
    [("xab", [0, 5, 4, 1]), ("x", [0, 5, 1]), ("<s>x", [0, 5, 1])],
)
def test_of_a_document_all_but_the_first_token_is_trained(small: Any, text: str, ids: list[int]) -> None:
    [sample] = document_samples(small, [Document("d", text)])
    assert sample == TrainingSample("d", ids, [F] + [T] * (len(ids) - 1))


def test_documents_keep_their_order_over_batches(small: Any) -> None:
    documents = [Document(str(n), "x" * (n % 7 + 1)) for n in range(600)]
    samples = list(document_samples(small, iter(documents)))
    assert [sample.name for sample in samples] == [document.id for document in documents]
    assert [len(sample.ids) for sample in samples] == [n % 7 + 3 for n in range(600)]
    assert list(document_samples(small, [])) == []


TEXT = st.text(st.sampled_from("ab x\n。、：.壊血病のびょうきビタミンＣ𠮷0é"), max_size=15)


@given(prompt=TEXT, answer=TEXT)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_example_is_encoded_as_in_the_evaluation(qwen2: Any, prompt: str, answer: str) -> None:
    sample = example_sample(qwen2, "n", prompt, answer)
    [ids] = encode(qwen2, [prompt + answer])
    assert sample.ids == [*ids, qwen2.eos_token_id]
    assert sample.loss_mask[-1] is True
    [alone] = encode(qwen2, [prompt])
    first = sample.loss_mask.index(True)
    assert sample.loss_mask == [F] * first + [T] * (len(ids) + 1 - first)
    assert ids[:first] == alone[:first]


REAL: Sequence[tuple[str, str, str]] = [
    ("igakuqa", "ja", "test"),
    ("igakuqa", "en", "test"),
    ("medqa", "en", "test"),
    ("jmmlu", "ja", "test"),
    ("demo", "ja", "train"),
    ("demo", "en", "train"),
]


@pytest.fixture(scope="module")
def real_questions(shared: Path) -> list[Question]:
    """Of each set a dozen spread over it, among them items with several answers."""
    found: list[Question] = []
    for benchmark, language, split in REAL:
        questions = [q for q in load(benchmark, language, shared, split) if q.gold]
        found += questions[:: max(1, len(questions) // 12)]
        found += [q for q in questions if len(q.gold) > 1][:3]
    return found


@pytest.mark.parametrize("answer_as", ["text", "letter"])
@pytest.mark.parametrize("pack", ["instruction", "preamble"])
def test_real_questions_train_exactly_their_answer(
    qwen2: Any, real_questions: list[Question], pack: str, answer_as: Any
) -> None:
    prompt_format = PromptFormat(load_pack(pack), answer_as)
    assert {len(question.gold) for question in real_questions} >= {1, 2}
    for question in real_questions:
        prompt, answer = ask(prompt_format, question, never), answer_text(question, answer_as)
        sample = example_sample(qwen2, question.id, prompt, answer)
        assert qwen2.decode(trained(sample)) == answer + EOS
        assert qwen2.decode(sample.ids) == prompt + answer + EOS


def test_the_plain_pack_trains_the_answer_with_at_most_the_border(qwen2: Any, real_questions: list[Question]) -> None:
    prompt_format = PromptFormat(load_pack("plain"))
    for question in real_questions:
        prompt, answer = ask(prompt_format, question, never), answer_text(question)
        text = qwen2.decode(trained(example_sample(qwen2, question.id, prompt, answer)))
        border = text.removesuffix(answer + EOS)
        assert text.endswith(answer + EOS)
        assert prompt.endswith(border) and len(border) <= 1


def never(messages: list[dict[str, str]]) -> str:
    raise AssertionError("asked for a chat template without chat")


def test_a_question_asked_by_chat_trains_its_answer_too(qwen2: Any, real_questions: list[Question]) -> None:
    def chatml(messages: list[dict[str, str]]) -> str:
        turns = [f"<|im_start|>{turn['role']}\n{turn['content']}<|im_end|>\n" for turn in messages]
        return "".join(turns) + "<|im_start|>assistant\n"

    prompt_format = PromptFormat(load_pack("instruction"), chat=True)
    for question in real_questions[::4]:
        sample = example_sample(qwen2, question.id, ask(prompt_format, question, chatml), answer_text(question))
        assert qwen2.decode(trained(sample)) == answer_text(question) + EOS


def test_real_questions_survive_packing(qwen2: Any, real_questions: list[Question]) -> None:
    prompt_format = PromptFormat(load_pack("instruction"))
    samples = [example_sample(qwen2, q.id, ask(prompt_format, q, never), answer_text(q)) for q in real_questions[::3]]
    blocks = pack_examples(samples, 2048, qwen2.eos_token_id)
    wanted = blocks.ids[blocks.loss_mask].tolist()
    assert qwen2.decode(wanted) == "".join(answer_text(q) + EOS for q in real_questions[::3])


@pytest.mark.parametrize("pack", ["instruction", "preamble"])
def test_real_instructions_train_exactly_their_output(shared: Path, qwen2: Any, pack: str) -> None:
    items = list(read_instructions(shared / "instructions" / "chatdoctor5k.json"))
    assert len(items) == 5452
    assert items[0].instruction == (
        "If you are a doctor, please answer the medical questions based on the patient's description."
    )
    prompt_format = PromptFormat(load_pack(pack))
    for item in items[::500]:
        assert item.language == "en"
        sample = example_sample(qwen2, item.name, ask_instruction(prompt_format, item, never), item.output)
        assert qwen2.decode(trained(sample)) == item.output + EOS


GOOD = [
    ({"instruction": "訳せ", "input": "壊血病", "output": "scurvy"}, ("訳せ", "壊血病", "scurvy", "ja")),
    ({"instruction": "Hi", "output": "x"}, ("Hi", "", "x", "en")),
    ({"instruction": "Hi", "input": None, "output": "x", "id": 3}, ("Hi", "", "x", "en")),
]


@pytest.mark.parametrize("name", ["custom.jsonl", "custom.json"])
def test_custom_instructions(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    rows = [row for row, _ in GOOD]
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    path.write_text(lines if name.endswith("l") else json.dumps(rows), encoding="utf-8")
    items = list(read_instructions(path))
    assert [(i.instruction, i.input, i.output, i.language) for i in items] == [wanted for _, wanted in GOOD]
    place = f"{path}:" if name.endswith("l") else f"{path}: entry "
    assert [item.name for item in items] == [f"{place}{number}" for number in (1, 2, 3)]


FIRST = '{"instruction": "a", "output": "b"}'
# name: (file, its text, message)
BROKEN = {
    "no output": (
        "x.jsonl",
        FIRST + '\n{"instruction": "a"}',
        ":2: field 'output' must be a text that is not empty",
    ),
    "blank": (
        "x.jsonl",
        '{"instruction": " ", "output": "b"}',
        ":1: field 'instruction' must be a text that is not empty",
    ),
    "number": (
        "x.json",
        f'[{FIRST}, {{"instruction": 3, "output": "b"}}]',
        ": entry 2: field 'instruction' must be a text that is not empty",
    ),
    "input": (
        "x.jsonl",
        '{"instruction": "a", "input": ["b"], "output": "c"}',
        ":1: field 'input' must be a text or left out",
    ),
    "one object": ("x.json", FIRST, ": expected a list of objects, one for each item; give that list alone"),
    "list of texts": ("x.json", '["a"]', ": entry 1: expected an object, found str"),
    "broken": ("x.json", f"[{FIRST},\n", ":2: broken JSON: Expecting value; fix or remove the line"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_instruction_is_named(tmp_path: Path, case: str) -> None:
    name, text, expected = BROKEN[case]
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError) as error:
        list(read_instructions(tmp_path / name))
    assert str(error.value) == f"{tmp_path / name}{expected}"


@pytest.mark.parametrize("template_begins", ["{{ bos_token }}", ""])
def test_a_conversation_begins_once_and_ends(small: Any, template_begins: str, monkeypatch: Any) -> None:
    # The tokenizer adds both ends by itself; many templates write them too.
    ends = "{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}"
    loop = "{% for m in messages %}{{ m.content }}" + ends + "{% endfor %}"
    monkeypatch.setattr(small, "chat_template", template_begins + loop)
    message = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "ab"}]
    assert conversation_samples(training_chat(ChatTemplate(small)), "n", message) == [
        TrainingSample("n", [0, 5, 4, 1], [F, F, T, T])
    ]
