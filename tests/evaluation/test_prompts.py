"""Prompt packs: what they render, where they come from, and what is said when they are wrong."""

import json
import re
from pathlib import Path

import pytest

from jmedllm.errors import InputError
from jmedllm.evaluation.prompts import answer_text, load_pack, messages, prompt_hash, prompt_text, render
from jmedllm.evaluation.question import Question

ONE = Question("112A1", "igakuqa", "ja", "正しいのはどれか。", ("胃", "肝臓", "腎"), frozenset({1}))
TWO = Question("112A2", "igakuqa", "ja", "2つ選べ。", ("胃", "肝臓", "腎"), frozenset({0, 2}), select=2)
NUMBER = Question("112F84", "igakuqa", "ja", "BMIを求めよ。", (), frozenset(), number="1.2")
ONE_EN = Question("e1", "medqa", "en", "Which is right?", ("stomach", "liver"), frozenset({1}))
TWO_EN = Question("e2", "igakuqa", "en", "Choose two.", ("stomach", "liver", "kidney"), frozenset({0, 2}), select=2)
NUMBER_EN = Question("e3", "igakuqa", "en", "What is the BMI?", (), frozenset(), number="21.5")

FREE = Question("f1", "own", "ja", "インスリンの作用を述べよ。", (), frozenset(), reference="血糖を下げる。")
FREE_EN = Question("f2", "own", "en", "What does insulin do?", (), frozenset(), rubric="names glucose")

JA, EN = "次は医学の試験問題です。", "This is a medical examination question. "

RENDERED = [
    (
        "instruction",
        ONE,
        "text",
        f"### 指示：\n{JA}答えとなる選択肢を1つ選び、その文をそのまま書いてください。\n"
        "### 入力：\n正しいのはどれか。\n胃\n肝臓\n腎\n### 応答：\n",
    ),
    (
        "instruction",
        TWO,
        "letter",
        f"### 指示：\n{JA}答えとなる選択肢を2つ選び、記号だけをコンマで区切って書いてください。\n"
        "### 入力：\n2つ選べ。\na. 胃\nb. 肝臓\nc. 腎\n### 応答：\n",
    ),
    (
        "instruction",
        NUMBER,
        "letter",
        f"### 指示：\n{JA}答えを計算し、数値だけを書いてください。\n### 入力：\nBMIを求めよ。\n### 応答：\n",
    ),
    (
        "preamble",
        TWO,
        "text",
        f"{JA}答えとなる選択肢を2つ選び、その文をそのままコンマで区切って書いてください。\n"
        "### 指示：\n2つ選べ。\n### 入力：\n胃\n肝臓\n腎\n### 応答：\n",
    ),
    (
        "preamble",
        NUMBER,
        "text",
        f"{JA}答えを計算し、数値だけを書いてください。\n### 指示：\nBMIを求めよ。\n### 応答：\n",
    ),
    (
        "instruction",
        ONE_EN,
        "text",
        f"### Instruction:\n{EN}Choose the one option that answers it and write its text word for word.\n"
        "### Input:\nWhich is right?\nstomach\nliver\n### Response:\n",
    ),
    (
        "preamble",
        TWO_EN,
        "letter",
        f"{EN}Choose the 2 options that answer it and write their letters only, separated by commas.\n"
        "### Instruction:\nChoose two.\n### Input:\na. stomach\nb. liver\nc. kidney\n### Response:\n",
    ),
    (
        "instruction",
        FREE,
        "letter",
        "### 指示：\n次は医学の問題です。答えを文章で書いてください。\n"
        "### 入力：\nインスリンの作用を述べよ。\n### 応答：\n",
    ),
    (
        "preamble",
        FREE,
        "text",
        "次は医学の問題です。答えを文章で書いてください。\n### 指示：\nインスリンの作用を述べよ。\n### 応答：\n",
    ),
    (
        "instruction",
        FREE_EN,
        "text",
        "### Instruction:\nThis is a medical question. Answer it in your own words.\n"
        "### Input:\nWhat does insulin do?\n### Response:\n",
    ),
    (
        "preamble",
        FREE_EN,
        "letter",
        "This is a medical question. Answer it in your own words.\n"
        "### Instruction:\nWhat does insulin do?\n### Response:\n",
    ),
    ("plain", FREE, "text", "インスリンの作用を述べよ。"),
    (
        "preamble",
        NUMBER_EN,
        "letter",
        f"{EN}Work out the answer and write the number only.\n### Instruction:\nWhat is the BMI?\n### Response:\n",
    ),
]


@pytest.mark.parametrize(
    ("pack", "asked", "answer_as", "text"), RENDERED, ids=[f"{r[0]}-{r[1].id}-{r[2]}" for r in RENDERED]
)
def test_built_in_packs(pack, asked, answer_as, text):
    assert prompt_text(render(load_pack(pack), asked, answer_as)) == text


@pytest.mark.parametrize(
    ("asked", "answer_as", "answer"),
    [
        (ONE, "text", "肝臓"),
        (ONE, "letter", "b"),
        (TWO, "text", "胃,腎"),
        (TWO, "letter", "a,c"),
        (NUMBER, "letter", "1.2"),
        (FREE, "text", "血糖を下げる。"),
    ],
)
def test_answer_text(asked, answer_as, answer):
    assert answer_text(asked, answer_as) == answer


def test_a_question_with_only_a_rubric_has_no_answer_text():
    with pytest.raises(InputError, match="'f2' has no right answer"):
        answer_text(FREE_EN)


def test_a_question_without_right_answer_has_no_answer_text():
    with pytest.raises(InputError, match="'113A1' has no right answer"):
        answer_text(Question("113A1", "igakuqa", "ja", "", ("a", "b"), frozenset()))


def test_shots_go_before_the_question():
    prompt = render(load_pack("preamble"), NUMBER, "letter", [ONE, TWO])
    first, second, last = prompt_text(prompt).split("\n\n")
    assert first.endswith("c. 腎\n### 応答：\nb")
    assert second.endswith("c. 腎\n### 応答：\na,c")
    assert last == prompt.block


def test_shots_are_turns_of_a_chat():
    turns = messages(render(load_pack("preamble"), NUMBER, "letter", [ONE, TWO]))
    assert [turn["role"] for turn in turns] == ["user", "assistant", "user", "assistant", "user"]
    assert [turn["content"] for turn in turns[1::2]] == ["b", "a,c"]
    assert turns[-1]["content"].endswith("### 応答：\n")


def test_a_question_is_not_its_own_example():
    with pytest.raises(InputError, match="'112A1' is one of its own solved examples"):
        render(load_pack("preamble"), ONE, shots=[TWO, ONE])


def test_the_hash_follows_all_that_shapes_a_prompt():
    pack = load_pack("instruction")
    hashes = [
        prompt_hash(pack, "ja"),
        prompt_hash(pack, "en"),
        prompt_hash(load_pack("preamble"), "ja"),
        prompt_hash(pack, "ja", "letter"),
        prompt_hash(pack, "ja", shots=[ONE]),
        prompt_hash(pack, "ja", shots=[TWO]),
        prompt_hash(pack, "ja", chat_template="{{ messages }}"),
    ]
    assert len(set(hashes)) == len(hashes)
    assert prompt_hash(load_pack("instruction"), "ja") == hashes[0]


def write_pack(folder: Path, text: str) -> str:
    (folder / "ja.j2").write_text(text, encoding="utf-8")
    return str(folder)


def test_a_folder_is_a_pack(tmp_path):
    pack = load_pack(write_pack(tmp_path, "{{ choices | join('/') }}\n{{ stem }}\n"))
    assert render(pack, ONE).block == "胃/肝臓/腎\n正しいのはどれか。\n"
    with pytest.raises(InputError, match=r"has no en\.j2"):
        render(pack, ONE_EN)
    with pytest.raises(InputError, match="shows no letters"):
        render(pack, ONE, "letter")


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        pytest.param("{{ stem }}\n{% if %}", 2, "Expected an expression", id="syntax"),
        pytest.param("\n\n{{ stemm }}", 3, "'stemm' is undefined", id="unknown variable"),
        pytest.param("{{ stem + 1 }}", 1, "can only concatenate str", id="wrong type"),
        pytest.param("\n{% include 'x' %}", 2, "no loader", id="another file"),
        pytest.param("{{ stem.__class__.__mro__ }}", 1, "unsafe", id="out of the sandbox"),
    ],
)
def test_a_broken_template_names_file_and_line(tmp_path, text, line, reason):
    with pytest.raises(InputError, match=rf"^{re.escape(str(tmp_path / 'ja.j2'))}:{line}: .*{reason}[^\n]*$"):
        render(load_pack(write_pack(tmp_path, text)), ONE)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("instuction", "unknown prompt pack 'instuction': did you mean instruction"),
        ("sukeda2024", "name that directory with --data"),
        ("missing.json", "missing.json: no such file"),
    ],
)
def test_a_pack_that_is_not_there(name, message):
    with pytest.raises(InputError, match=message):
        load_pack(name)


def test_the_published_file_comes_with_data_get(tmp_path):
    with pytest.raises(InputError, match="jmedllm data get sukeda2024"):
        load_pack("sukeda2024", tmp_path)


@pytest.mark.parametrize("content", ["[]", "{}", '{"templates": {"alpaca": 1}}'])
def test_a_file_of_another_form(tmp_path, content):
    file = tmp_path / "mine.json"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match="no prompt templates; expected"):
        load_pack(str(file))


def test_an_empty_folder_is_no_pack(tmp_path):
    with pytest.raises(InputError, match=r"neither ja\.j2 nor en\.j2"):
        load_pack(str(tmp_path))


PUBLISHED = [
    ("", "medpalm_five_choice_cot_ja", "medpalm_five_choice_cot"),
    (":alpaca", "alpaca_ja", "alpaca"),
    (":alpaca_ja", "alpaca_ja", "alpaca_ja"),
    (":medpalm_four_choice_cot", "alpaca_ja", "alpaca"),
    (":medpalm_four_choice_cot_ja", "alpaca_ja", "alpaca_ja"),
    (":meditron_four_choice", "meditron_four_choice", "meditron_four_choice"),
]


@pytest.mark.parametrize(("template", "ja", "en"), PUBLISHED)
def test_published_templates(shared: Path, template, ja, en):
    file = shared / "prompts" / "sukeda2024.json"
    texts = json.loads(file.read_text(encoding="utf-8"))["templates"]
    pack = load_pack(f"sukeda2024{template}", shared)
    assert pack.note == f"ja uses {ja}, en uses {en}"
    for asked, name in ((ONE, ja), (ONE_EN, en)):
        filled = texts[name].replace("{{instruction}}", asked.stem).replace("{{input}}", ",".join(asked.choices))
        assert prompt_text(render(pack, asked)) == filled
    assert load_pack(f"{file}{template}").templates == pack.templates


def test_published_lettered_lines(shared: Path):
    pack = load_pack("sukeda2024:meditron_five_choice", shared)
    assert "Options:\n(A)胃\n(B)肝臓\n(C)腎<|im_end|>\n" in prompt_text(render(pack, ONE))


def test_an_unknown_published_template(shared: Path):
    with pytest.raises(InputError, match="'alpacca': did you mean alpaca"):
        load_pack("sukeda2024:alpacca", shared)
