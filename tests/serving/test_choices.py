"""Questions as people paste them."""

import json
import shutil
import subprocess
from pathlib import Path
from random import Random
from typing import Any

import pytest

from jmedllm.evaluation.benchmarks import BENCHMARKS
from jmedllm.serving import page
from jmedllm.serving.choices import Layout, MultipleChoiceQuestion, find_choices, question_prompt

CHOICES = ("発熱", "咳嗽", "A 型肝炎 (HAV)", "1.5 mg/dL 以上", "vitamin B12")

FORMS = {
    "letters and an ideographic space": [f"{label}　" for label in "abcde"],
    "letters and a point": [f"{label}. " for label in "abcde"],
    "capitals and a bracket": [f"{label}) " for label in "ABCDE"],
    "capitals in brackets": [f"({label}) " for label in "ABCDE"],
    "full-width letters": [f"{label}．" for label in "ａｂｃｄｅ"],
    "full-width brackets": [f"（{label}）" for label in "ａｂｃｄｅ"],
    "numbers": [f"{number}. " for number in range(1, 6)],
    "full-width numbers": [f"{label}　" for label in "１２３４５"],
    "circled numbers": [*"①②③④⑤"],
    "kana": [f"{label}．" for label in "アイウエオ"],
    "half-width kana": [f"{label}: " for label in "ｱｲｳｴｵ"],
    "kana of the iroha": [f"（{label}）" for label in "イロハニホ"],
    "list marks": [f"- {label}. " for label in "abcde"],
    "letters and a space of a web page": [f"{label}\u00a0" for label in "abcde"],
    "letters and a tab": [f"{label}\t" for label in "ABCDE"],
}


def pasted(stem: str, marks: list[str], choices: tuple[str, ...], between: str = "\n") -> str:
    return f"{stem}\n{between.join(mark + text for mark, text in zip(marks, choices, strict=False))}"


@pytest.mark.parametrize("form", FORMS)
def test_choices_are_found_in_every_usual_form(form: str) -> None:
    found = find_choices(pasted("肝炎で正しいのはどれか。\n1. 既往歴なし\n2. 飲酒歴あり", FORMS[form], CHOICES))
    assert [text for _, text in found.choices] == [*CHOICES]
    assert found.stem == "肝炎で正しいのはどれか。\n1. 既往歴なし\n2. 飲酒歴あり"


CASES: dict[str, tuple[str, tuple[str, ...], int]] = {
    "in one line": ("正しいのはどれか。(A) 発熱 (B) 咳 (C) 頭痛", ("発熱", "咳", "頭痛"), 1),
    "numbers in one line": ("Which is right? 1. fever 2. cough 3. headache", ("fever", "cough", "headache"), 1),
    "circled in one line": ("正しいのはどれか。①発熱②咳③頭痛", ("発熱", "咳", "頭痛"), 1),
    "letters in one line": ("正しいのはどれか。 a 発熱 b 咳 c 頭痛", ("発熱", "咳", "頭痛"), 1),
    "a choice of two lines": ("Which?\na. a long\nchoice\nb. short", ("a long choice", "short"), 1),
    "two choices": ("正しいのはどれか。2つ選べ。\na 発熱\nb 咳\nc 頭痛", ("発熱", "咳", "頭痛"), 2),
    "full-width two": ("適切なのはどれか。２つ選べ。\na 発熱\nb 咳\nc 頭痛", ("発熱", "咳", "頭痛"), 2),
    "three other things": (
        "次の3つの因子で重いのはどれか。\na 発熱\nb 咳\nc 頭痛",
        ("発熱", "咳", "頭痛"),
        1,
    ),
    "one of three things": ("3つの選択肢から1つ選べ。\na 発熱\nb 咳\nc 頭痛", ("発熱", "咳", "頭痛"), 1),
    "two of four things": ("4つの中から二つを選べ。\na 発熱\nb 咳\nc 頭痛", ("発熱", "咳", "頭痛"), 2),
    "choose two": ("Choose two of these.\nA. fever\nB. cough\nC. rash", ("fever", "cough", "rash"), 2),
    "the answer below": ("Which?\nA. fever\nB. cough\nAnswer: B", ("fever", "cough"), 1),
    "the answer after a gap": ("どれか。\na 発熱\nb 咳\n\n正解 b", ("発熱", "咳"), 1),
    "an article at the start": ("A 45-year-old man has fever.\nA. flu\nB. cold\nC. rash", ("flu", "cold", "rash"), 1),
    "choices that name statements": ("どれか。\n(1) 発熱\n(2) 咳\na (1)のみ\nb (1)(2)", ("(1)のみ", "(1)(2)"), 1),
    "history, then choices in a line": ("1. fever\n2. cough\n\nWhich? (A) flu (B) cold", ("flu", "cold"), 1),
    "letters against the text": ("正しいのはどれか。\na発熱\nb咳\nc頭痛", ("発熱", "咳", "頭痛"), 1),
    "carriage returns": ("Which?\r\na. fever\r\nb. cough\r\n", ("fever", "cough"), 1),
    "hepatitis": ("どれが正しいか。\nA型肝炎\nB型肝炎\nC型肝炎", (), 1),
    "vitamins": ("What do vitamins a, b, c have in common?", (), 1),
    "no choices": ("What are the signs of sepsis?", (), 1),
    "nothing": ("", (), 1),
}


@pytest.mark.parametrize("name", CASES)
def test_choices_of_other_layouts(name: str) -> None:
    text, choices, select = CASES[name]
    found = find_choices(text)
    assert (tuple(text for _, text in found.choices), found.select) == (choices, select)


def test_what_is_left_out_is_kept_apart() -> None:
    assert find_choices("Which?\nA. fever\nB. cough\nAnswer: B").rest == "Answer: B"


def in_node(expression: str, given: object) -> Any:
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node on this machine; on Debian: apt install nodejs")
    source = (Path(page.__file__).parent / "choices.js").read_text(encoding="utf-8")
    program = f"{source}\nconst given = JSON.parse(require('fs').readFileSync(0));\n"
    program += f"console.log(JSON.stringify({expression}))"
    run = subprocess.run([node, "-e", program], input=json.dumps(given), capture_output=True, text=True, check=True)
    return json.loads(run.stdout)


def in_the_browser_s_words(texts: list[str]) -> list[MultipleChoiceQuestion]:
    return [
        MultipleChoiceQuestion(
            each["stem"],
            tuple((choice["label"], choice["text"]) for choice in each["choices"]),
            each["select"],
            each["rest"],
        )
        for each in in_node("given.map(findChoices)", texts)
    ]


def test_the_page_finds_the_same() -> None:
    texts = [
        *(pasted("どれか。", marks, CHOICES) for marks in FORMS.values()),
        *(text for text, _, _ in CASES.values()),
    ]
    assert in_the_browser_s_words(texts) == [find_choices(text) for text in texts]


@pytest.mark.parametrize("layout", ["letter", "text", "plain"])
def test_the_page_asks_the_same(layout: Layout) -> None:
    texts = [text for text, choices, _ in CASES.values() if choices]
    asked = in_node(f"given.map((text) => examPrompt(findChoices(text), '{layout}'))", texts)
    expected = [question_prompt(find_choices(text), layout) for text in texts]
    assert [(each["prompt"], each["texts"]) for each in asked] == expected


@pytest.mark.exhaustive
def test_the_page_finds_the_same_in_any_text() -> None:
    random = Random(0)
    parts = [*"abcABC123１２①②アイウあいイロ()（）.．:、,。\n\n  　\t-*", "(a)", "b. ", "答え", "正解 c", "two"]
    parts += [
        "2つ選べ",
        "choose two ",
        "\r\n",
        "\u00a0",
        "10",
        "発熱",
        "fever",
        "\u2028",
        "İ",
        "ﬀ",
        "⑴",
        "⒜",
        "㋐",
        "𝟏",
    ]
    texts = ["".join(random.choices(parts, k=random.randint(1, 60))) for _ in range(3000)]
    assert in_the_browser_s_words(texts) == [find_choices(text) for text in texts]


@pytest.mark.exhaustive
@pytest.mark.parametrize(("benchmark", "language"), [("igakuqa", "ja"), ("igakuqa", "en"), ("medqa", "en")])
def test_choices_of_real_exams_are_found(shared: Path, benchmark: str, language: str) -> None:
    questions = [each for each in BENCHMARKS[benchmark].load(shared, language, "test") if 2 <= len(each.choices) <= 5]
    texts, expected = [], []
    for index, question in enumerate(questions):
        for marks in [*FORMS.values()][index % 3 :: 3]:
            texts.append(pasted(question.stem, marks, question.choices))
            expected.append([" ".join(choice.split()) for choice in question.choices])
    found = [find_choices(text) for text in texts]
    right = [
        [" ".join(text.split()) for _, text in each.choices] == choices
        for each, choices in zip(found, expected, strict=True)
    ]
    wrong = [text for text, is_right in zip(texts, right, strict=True) if not is_right]
    assert len(wrong) <= 0.005 * len(texts), "\n----\n".join(wrong[:10])
    assert in_the_browser_s_words(texts) == found
