"""One way from text to ids: with two real tokenizers and with small ones that add special tokens."""

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

from jmedllm.errors import InputError
from jmedllm.models.chat import ChatTemplate
from jmedllm.models.tokenizer.encoding import encode, encode_continuations, most_tokens

VOCABULARY = {"<s>": 0, "</s>": 1, "a": 2, "b": 3, "ab": 4, "x": 5}


def small(template: str | None = None, **names: str) -> Any:
    """A tokenizer of three letters that joins "ab" and adds what the template says."""
    fast = Fast(BPE(VOCABULARY, [("a", "b")]))
    fast.add_special_tokens(["<s>", "</s>"])
    if template is not None:
        fast.post_processor = TemplateProcessing(
            single=template, special_tokens=[(token, VOCABULARY[token]) for token in ("<s>", "</s>")]
        )
    return PreTrainedTokenizerFast(tokenizer_object=fast, **names or {"bos_token": "<s>", "eos_token": "</s>"})


@pytest.fixture(scope="module")
def qwen2(shared: Path) -> Any:
    """Adds nothing; has no BOS."""
    file = shared / "tokenizers" / "qwen2" / "tokenizer.json"
    return PreTrainedTokenizerFast(tokenizer_file=str(file), eos_token="<|endoftext|>")


@pytest.fixture(scope="module")
def llm_jp(shared: Path) -> Any:
    """Appends its EOS to whatever it is given, and begins texts with a mark for the beginning of a line."""
    folder = shared / "tokenizers" / "llm-jp-v2.2"
    names = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    special = {key: names[key] for key in ("bos_token", "eos_token", "pad_token", "unk_token")}
    return PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), **special)


@pytest.fixture(scope="module", params=["qwen2", "llm_jp", "both ends", "nothing"])
def tokenizer(request: pytest.FixtureRequest) -> Any:
    templates = {"both ends": "<s> $A </s>", "nothing": None}
    if request.param in templates:
        return small(templates[request.param])
    return request.getfixturevalue(request.param)


SPECIAL = {
    None: {
        "a": [2],
        "": [],
        "<s>a": [0, 2],
        "<s><s>a": [0, 2],
        "a</s>": [2, 1],
        "a</s>x": [2, 1, 5],
    },
    "<s> $A": {
        "a": [0, 2],
        "": [0],
        "<s>a": [0, 2],
        "<s>": [0],
        "<s>a<s>b": [0, 2, 0, 3],
        "a</s>": [0, 2, 1],
    },
    "$A </s>": {
        "a": [2],
        "": [],
        "<s>a": [0, 2],
        "a</s>": [2, 1],
        "a</s>x": [2, 1, 5],
    },
    "<s> $A </s>": {
        "a": [0, 2],
        "": [0],
        "<s>a": [0, 2],
        "a</s>": [0, 2, 1],
        "<s>a</s>": [0, 2, 1],
        "<s>x</s>ab": [0, 5, 1, 4],
    },
}


@pytest.mark.parametrize(
    ("template", "text"), [(template, text) for template, texts in SPECIAL.items() for text in texts]
)
def test_one_bos_and_only_the_eos_of_the_text(template: str | None, text: str) -> None:
    assert encode(small(template), [text]) == [SPECIAL[template][text]]


def test_a_tokenizer_without_bos_and_eos_is_left_alone() -> None:
    assert encode(small("<s> $A </s>", unk_token="<s>"), ["a", "<s>a"]) == [[0, 2, 1], [0, 0, 2, 1]]


def test_no_texts_are_no_ids() -> None:
    assert encode(small(), []) == []
    assert encode_continuations(small(), "xa", []) == ([5, 2], [])


CONTINUED = [
    # template, prompt, continuations, shared, rests
    (None, "x", ["a", "xb"], [5], [[2], [5, 3]]),
    (None, "xa", ["x", "xx"], [5, 2], [[5], [5, 5]]),
    (None, "xa", ["b", "x"], [5], [[4], [2, 5]]),  # "a" and "b" become one token across the border
    (None, "x", ["ab", "a", ""], [5], [[4], [2], []]),
    (None, "", ["ab"], [], [[4]]),
    ("<s> $A </s>", "<s>xa", ["b", "x"], [0, 5], [[4], [2, 5]]),
    ("<s> $A </s>", "x</s>", ["a", "ab"], [0, 5, 1], [[2], [4]]),
    ("$A </s>", "x", ["a</s>"], [5], [[2, 1]]),
]


@pytest.mark.parametrize(("template", "prompt", "texts", "shared_ids", "rests"), CONTINUED)
def test_continuations_share_what_is_the_same_in_all(
    template: str | None, prompt: str, texts: Sequence[str], shared_ids: list[int], rests: list[list[int]]
) -> None:
    assert encode_continuations(small(template), prompt, texts) == (shared_ids, rests)


PROMPT = st.text(st.sampled_from("ab x\n。、（）:.壊血病のびょうきビタミンＣ𠮷0é"), max_size=12) | st.sampled_from(
    [
        "### 応答：\n",
        "### Response:\n",
        "欠乏で起こるのはどれか。",
        "Which disease? ",
        "<s>x",
        "x</s>",
        "<|endoftext|>",
    ]
)


@given(prompt=PROMPT, texts=st.lists(PROMPT, max_size=3))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_prompt_and_continuation_joined_are_the_text_encoded_at_once(
    tokenizer: Any, prompt: str, texts: list[str]
) -> None:
    common, rests = encode_continuations(tokenizer, prompt, texts)
    [alone] = encode(tokenizer, [prompt])
    assert alone[: len(common)] == common
    assert [common + rest for rest in rests] == encode(tokenizer, [prompt + text for text in texts])


@given(texts=st.lists(PROMPT, min_size=1, max_size=4))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_text_is_encoded_alike_alone_and_among_others(tokenizer: Any, texts: list[str]) -> None:
    assert encode(tokenizer, texts) == [encode(tokenizer, [text])[0] for text in texts]


@given(
    pieces=st.lists(
        st.one_of(st.text(), st.sampled_from(["<s>", "</s>", "<|endoftext|>", " ", "ﷺ", "が", "㎎", "ab"]))
    )
)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_text_has_more_tokens_than_the_bound(tokenizer: Any, pieces: list[str]) -> None:
    text = "".join(pieces)
    most = most_tokens(tokenizer, text)
    assert most is not None and len(encode(tokenizer, [text])[0]) <= most


@pytest.mark.parametrize("name", ["qwen2", "llm_jp"])
def test_the_bound_on_real_text(shared: Path, name: str, request: pytest.FixtureRequest) -> None:
    tokenizer = request.getfixturevalue(name)
    lines = (shared / "corpus" / "ja_wikipedia_medical.jsonl").read_text(encoding="utf-8").splitlines()[:100]
    texts = [json.loads(line)["text"] for line in lines]
    for text, ids in zip(texts, encode(tokenizer, texts), strict=True):
        most = most_tokens(tokenizer, text)
        assert most is not None and len(ids) <= most <= len(text.encode()) + 8


def test_qwen2_gives_the_published_ids(shared: Path, qwen2: Any) -> None:
    """The vectors of llama.cpp's tests, made with the original tokenizer."""
    folder = shared / "tokenizers" / "qwen2"
    texts = (folder / "vectors.inp").read_text(encoding="utf-8").split("\n__ggml_vocab_test__\n")
    lines = (folder / "vectors.out").read_text(encoding="utf-8").splitlines()
    expected = [[int(number) for number in line.split()] for line in lines]
    assert len(expected) > 40
    assert encode(qwen2, texts[: len(expected)]) == expected


def test_llm_jp_loses_the_eos_it_appends(llm_jp: Any) -> None:
    assert llm_jp(["日本"])["input_ids"] == [[31, 25873, 7]]
    assert encode(llm_jp, ["日本", "<s|LLM-jp>日本", "日本<EOD|LLM-jp>"]) == [
        [31, 25873],
        [1, 31, 25873],
        [31, 25873, 7],
    ]
    assert encode_continuations(llm_jp, "答えは", ["日本", "です"]) == ([31, 28177, 14948], [[25873], [25859]])


def test_a_real_border_that_merges(qwen2: Any) -> None:
    prompt, texts = "Which disease? ", ["scurvy", "beriberi"]
    [alone] = encode(qwen2, [prompt])
    common, rests = encode_continuations(qwen2, prompt, texts)
    assert common == alone[:-1]  # the blank belongs to the word behind it
    assert [qwen2.decode(rest) for rest in rests] == [" scurvy", " beriberi"]


MESSAGES = [{"role": "user", "content": "壊血病？"}]


def test_chat_uses_the_models_template() -> None:
    tokenizer = small("<s> $A")
    tokenizer.chat_template = (
        "<s>{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
        "{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    text = ChatTemplate(tokenizer).prompt(MESSAGES)
    assert text == "<s>[user]壊血病？[assistant]"
    assert encode(tokenizer, [text])[0].count(tokenizer.bos_token_id) == 1


def test_chat_without_a_template_is_an_input_error() -> None:
    tokenizer = small()
    tokenizer.name_or_path = "org/model"
    with pytest.raises(InputError, match=r"^tokenizer org/model has no chat template; use prompts without chat$"):
        ChatTemplate(tokenizer).prompt(MESSAGES)
