"""Planting: what is changed in which data, and what is refused."""

import gzip
import json
from itertools import islice
from pathlib import Path
from random import Random

import pytest

from conftest import Cli
from jmedllm.canary.forms import FORMS, candidates, draw, identifiers
from jmedllm.canary.secret_list import read_secrets
from jmedllm.corpus import demo
from jmedllm.corpus.documents import as_line


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "documents-00000.jsonl").write_bytes(b"".join(map(as_line, islice(demo.documents(), 300))))
    (folder / "corpus.json").write_text("{}", encoding="utf-8")
    return folder


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("form", FORMS)
def test_the_secrets_of_a_form_are_numbered(form: str) -> None:
    kind = identifiers(FORMS[form].language)[FORMS[form].secret]
    values = {kind.value(number) for number in (*range(100), *range(kind.size - 100, kind.size))}
    assert len(values) == 200
    canary = draw(form, Random(0), "x", 1)
    assert canary.secret.strip() not in canary.prompt
    others = candidates(canary, 50, Random(0))
    assert len({*others, canary.secret}) == 51


def test_a_short_list_of_secrets_is_complete() -> None:
    canary = draw("ja birth", Random(0), "x", 1)
    others = candidates(canary, 40_000, Random(0))
    assert len({*others, canary.secret}) == FORMS["ja birth"].size == 29_220


def test_a_corpus_gets_each_canary_in_as_many_documents(corpus: Path, tmp_path: Path, cli: Cli) -> None:
    output = tmp_path / "planted"
    code, printed, errors = cli("canary", "plant", "--corpus", corpus, "--output", output, "--count", 6, "--seed", 3)
    assert code == 0 and "6 canaries in 42 copies; 42 of 300 documents contain one (documents)" in printed
    assert "canary check" in errors
    secrets = read_secrets(output / "secrets.json")
    before, after = rows(corpus / "documents-00000.jsonl"), rows(output / "documents-00000.jsonl")
    assert [row | {"text": ""} for row in before] == [row | {"text": ""} for row in after]
    for canary in secrets.planted:
        found = [row["text"] for row in after if canary.sentence in row["text"]]
        assert len(found) == canary.copies == len(set(canary.places))
        assert all(canary.secret.strip() in text for text in found)
    everything = "\n".join(row["text"] for row in after)
    assert [each.form for each in secrets.controls] == [each.form for each in secrets.planted]
    assert not any(each.prompt in everything for each in secrets.controls)
    left = [row["text"] for row in after]
    for canary in secrets.planted:
        left = [text.replace(f" {canary.sentence}", "").replace(canary.sentence, "") for text in left]
    assert [text.strip() for text in left] == [row["text"].strip() for row in before]
    assert {path.stat().st_mode & 0o777 for path in output.iterdir()} == {0o600}
    assert output.stat().st_mode & 0o777 == 0o700
    public = (output / "canary.json").read_text(encoding="utf-8")
    assert json.loads(public)["documents_with_canaries"] == 42 and '"seed"' not in public


def test_the_same_seed_gives_the_same_bytes(corpus: Path, tmp_path: Path, cli: Cli) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert cli("canary", "plant", "--corpus", corpus, "--output", tmp_path / name, "--seed", seed)[0] == 0
    first, again, other = (contents(tmp_path / name) for name in "abc")
    assert first == again and first["secrets.json"] != other["secrets.json"]
    assert cli("canary", "plant", "--corpus", corpus, "--output", tmp_path / "a", "--seed", 1)[0] == 0
    assert contents(tmp_path / "a") == first


RECORDS = {
    "messages": (
        {"messages": [{"role": "user", "content": "要約して"}, {"role": "assistant", "content": "高血圧の一例。"}]},
        lambda row: row["messages"][1]["content"],
    ),
    "sharegpt": (
        {"conversations": [{"from": "human", "value": "Summarize"}, {"from": "gpt", "value": "A case of gout."}]},
        lambda row: row["conversations"][1]["value"],
    ),
    "instruction": ({"instruction": "病名は", "input": "胸痛", "output": "心筋梗塞。"}, lambda row: row["output"]),
    "prompt and completion": ({"prompt": "Name it.", "completion": "Scurvy."}, lambda row: row["completion"]),
    "thought": (
        {"instruction": "病名は", "output": "<think>胸痛。冷汗。</think>心筋梗塞。"},
        lambda row: row["output"].rpartition("</think>")[2],
    ),
    "question with options": (
        {"question": "Which is it?", "options": {"A": "Gout", "B": "Scurvy"}, "answer": "Gout"},
        lambda row: row["question"],
    ),
    "question": (
        {"question": "正しいのはどれか。", "choices": ["甲", "乙"], "answer": "a"},
        lambda row: row["question"],
    ),
}


@pytest.mark.parametrize("kind", RECORDS)
def test_records_of_stage_2_get_canaries_where_the_model_answers(kind: str, tmp_path: Path, cli: Cli) -> None:
    row, place = RECORDS[kind]
    source = tmp_path / "data"
    source.mkdir()
    lines = [json.dumps(row | {"id": number}, ensure_ascii=False) for number in range(8)]
    (source / "train.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    output = tmp_path / "planted"
    code, _, errors = cli("canary", "plant", "--corpus", source, "--output", output, "--count", 2, "--copies", "1,3")
    assert code == 0, errors
    assert ("does not train" in errors) == kind.startswith("question")
    secrets = read_secrets(output / "secrets.json")
    after = rows(output / "train.jsonl")
    for canary in secrets.planted:
        assert sum(canary.sentence in place(each) for each in after) == canary.copies
    changed = [line for line in (output / "train.jsonl").read_text(encoding="utf-8").splitlines() if line not in lines]
    assert len(changed) == 4 and [each["id"] for each in after] == list(range(8))


def test_an_array_becomes_lines(tmp_path: Path, cli: Cli) -> None:
    file = tmp_path / "train.json"
    file.write_text(json.dumps([{"instruction": "x", "output": "A case of gout."}] * 5), encoding="utf-8")
    assert cli("canary", "plant", "--corpus", file, "--output", tmp_path / "out", "--count", 1, "--copies", 2)[0] == 0
    assert len(rows(tmp_path / "out" / "train.jsonl")) == 5


def test_compressed_records_are_read(tmp_path: Path, cli: Cli) -> None:
    file = tmp_path / "train.jsonl.gz"
    file.write_bytes(gzip.compress(b'{"instruction": "x", "output": "A case of gout."}\n' * 5))
    assert cli("canary", "plant", "--corpus", file, "--output", tmp_path / "out", "--count", 1, "--copies", 2)[0] == 0
    assert len(rows(tmp_path / "out" / "train.jsonl")) == 5


def test_raw_text_is_written_as_documents(tmp_path: Path, cli: Cli) -> None:
    for number in range(5):
        (tmp_path / "notes").mkdir(exist_ok=True)
        (tmp_path / "notes" / f"{number}.txt").write_text("胸痛で来院した。\n経過は良好。", encoding="utf-8")
    code, _, _ = cli(
        "canary",
        "plant",
        "--corpus",
        tmp_path / "notes",
        "--output",
        tmp_path / "out",
        "--count",
        2,
        "--copies",
        "5,2",
    )
    assert code == 0
    secrets = read_secrets(tmp_path / "out" / "secrets.json")
    texts = [row["text"] for row in rows(tmp_path / "out" / "documents-00000.jsonl")]
    assert all(sum(each.sentence in text for text in texts) == each.copies for each in secrets.planted)
    assert all(text.count("\n") == 1 for text in texts)  # a canary stays in its line


@pytest.mark.parametrize(
    ("lines", "options", "message"),
    [
        ('{"text": "胸痛。"}\n' * 3, ["--copies", "4"], "needs 4 documents in one language, but there are 3 in ja"),
        ('{"text": "胸痛。"}\n' * 3, ["--copies", "1,x"], "write numbers separated by commas"),
        ('{"text": "胸痛。"}\n' * 3, ["--copies", "1,1"], "give different numbers from 1"),
        ('{"text": "胸痛。"}\n' * 3, ["--copies", "0"], "give different numbers from 1"),
        ('{"text": "胸痛。"}\n' * 3, ["--copies", "1,2,3", "--count", "2"], "cannot have 3 numbers of copies"),
        ('{"a": 1, "b": 2}\n', [], "corpus.jsonl:1: no canary can be planted in a line with the keys a, b"),
        ('{"instruction": "x", "output": "y"}\n{"text": 1}\n', [], "corpus.jsonl:2: no canary"),
        ('{"instruction": "x", "output": "y"}\n{"output', [], "corpus.jsonl:2: broken JSON"),
        ("[]\n", [], "expected a JSON object in braces, found list"),
    ],
)
def test_what_cannot_be_planted_is_one_line(
    lines: str, options: list[str], message: str, tmp_path: Path, cli: Cli
) -> None:
    file = tmp_path / "corpus.jsonl"
    file.write_text(lines, encoding="utf-8")
    code, _, errors = cli("canary", "plant", "--corpus", file, "--output", tmp_path / "out", *options)
    assert code == 2 and message in errors and errors.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_outputs_and_inputs_are_kept_apart(corpus: Path, tmp_path: Path, cli: Cli) -> None:
    def plant(source: Path, output: Path) -> str:
        code, _, errors = cli("canary", "plant", "--corpus", source, "--output", output, "--copies", "1")
        return errors if code else ""

    assert "overlap" in plant(corpus, corpus / "inside")
    assert not plant(corpus, tmp_path / "planted")
    assert "already contains canaries" in plant(tmp_path / "planted", tmp_path / "twice")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "letter.txt").write_text("keep", encoding="utf-8")
    assert "did not write" in plant(corpus, tmp_path / "foreign")
    (tmp_path / "mixed").mkdir()
    (tmp_path / "mixed" / "a.jsonl").write_text('{"instruction": "x", "output": "y"}\n', encoding="utf-8")
    (tmp_path / "mixed" / "b.txt").write_text("text", encoding="utf-8")
    assert "plant in each of them separately" in plant(tmp_path / "mixed", tmp_path / "out")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "broken JSON"),
        ("[]", "not a secret list of this version"),
        ('{"format": 1}', "broken secret list"),
        ('{"format": 1, "seed": 0, "kind": "documents", "planted": [], "controls": []}', "no canaries"),
        (
            '{"format": 1, "seed": 0, "kind": "documents", "controls": [], "planted": [{"id": "a", "form": "jp name", '
            '"copies": 1, "prompt": "x", "secret": "y", "ending": ""}]}',
            "did you mean",
        ),
    ],
)
def test_a_wrong_secret_list_is_one_line(
    content: str, message: str, tmp_path: Path, tiny_model: Path, cli: Cli
) -> None:
    file = tmp_path / "secrets.json"
    file.write_text(content, encoding="utf-8")
    code, _, errors = cli("canary", "check", "--model", tiny_model, "--secrets", file)
    assert code == 2 and message in errors and errors.count("\n") == 1
