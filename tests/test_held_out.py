"""Held-out text is measured and never trained on; the mixture is counted."""

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml

from jmedllm.errors import InputError
from jmedllm.models.tokenizer.load import load_tokenizer
from jmedllm.pipeline import run_pipeline
from jmedllm.precision import choose_precision
from jmedllm.recipe_file import load_recipe
from jmedllm.stages import STAGES
from jmedllm.stages.corpus import CorpusOutputs
from jmedllm.stages.mfpt import MfptOutputs
from jmedllm.stages.stage import Run
from jmedllm.training.mixing import is_held_out
from jmedllm.training.packing import load_blocks

HELD_OUT = 0.2


def documents(kind: str, count: int) -> list[dict[str, str]]:
    """Documents of two languages that no filter takes for copies of one another."""
    return [
        {"id": f"{kind}{number}", "text": words(f"{kind}{number}", ("ja", "en")[number % 2]), "source": kind}
        for number in range(count)
    ]


def words(seed: str, language: str) -> str:
    random = Random(seed)
    letters = "あいうえおかきくけこさしすせそ薬病心肺胃" if language == "ja" else "abcdefghijklmnoprstuvw"
    made = ["".join(random.choices(letters, k=6)) for _ in range(12)]
    return "、".join(made) + "。" if language == "ja" else " ".join(made) + "."


def write(folder: Path, **changes: Any) -> Run:
    for kind, count in (("medical", 40), ("plain", 20)):
        rows = documents(kind, count)
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{kind}.jsonl").write_text(text, encoding="utf-8")
    (folder / "extra.txt").write_text("A text that stands nowhere else, held out by hand.", encoding="utf-8")
    recipe = {
        "name": "held",
        "precision": "float32",
        "data": str(folder),
        "base": {"random_init": {"vocabulary": 512, "hidden_size": 16, "layers": 1, "feed_forward": 16, "heads": 2}},
        "corpus": {
            "inputs": [str(folder / "medical.jsonl")],
            "block_size": 64,
            "mixing": {"general": [str(folder / "plain.jsonl")], "replay": 0.25},
        },
        "validation": {"held_out": HELD_OUT, "texts": {"extra": [str(folder / "extra.txt")]}},
        "mfpt": {"steps": 4, "learning_rate": 1e-3, "batch_size": 2, "early_stopping": {"every": 2}},
    } | changes
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return Run(load_recipe(path), folder / "run", choose_precision("float32", "cpu"), {})


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = write(tmp_path_factory.mktemp("kept"))
    run_pipeline(STAGES.values(), run, "report", lambda *_: None)
    return run


def packed_text(run: Run) -> str:
    ids: list[int] = []
    for row in load_blocks(run.folder / "corpus" / "blocks").ids.tolist():
        ids += row[ids[-1:] == row[:1] :]  # after a split the token before it is repeated
    return str(load_tokenizer(run.folder / "base").decode(ids))


def test_no_held_out_document_is_in_a_packed_row(done: Run) -> None:
    text = packed_text(done)
    for kind, count in (("medical", 40), ("plain", 20)):
        rows = documents(kind, count)
        kept = [row["text"] for row in rows if is_held_out(row["text"], HELD_OUT)]
        assert 0 < len(kept) < count / 2
        # The last words alone: a document may be cut where a row ends.
        assert not any(each[-20:] in text for each in kept)
        if kind == "medical":  # of the general text not all is replayed
            assert all(row["text"][-20:] in text for row in rows if row["text"] not in kept)


def test_every_set_is_measured_and_counted(done: Run) -> None:
    rows = [json.loads(line) for line in (done.folder / "mfpt" / "evaluations.jsonl").open()]
    assert [row["step"] for row in rows] == [0, 2, 4]
    assert list(rows[0]["bits_per_byte"]) == ["ja", "en", "general", "extra"]
    sizes = done.output("mfpt", MfptOutputs).evaluated
    kept = [row["text"] for row in documents("plain", 20) if is_held_out(row["text"], HELD_OUT)]
    assert sizes["general"]["documents"] == len(kept)
    assert sizes["extra"]["documents"] == 1 and 40 <= sizes["extra"]["bytes"] < 50


def test_the_mixture_is_counted(done: Run) -> None:
    mixture, epochs = done.output("corpus", CorpusOutputs).mixture, done.output("mfpt", MfptOutputs).epochs
    read = {name: part["read"] for name, part in mixture.items()}
    assert read["general"] / sum(read.values()) == pytest.approx(0.25, abs=0.1)
    assert mixture["medical"]["read"] == mixture["medical"]["bytes"]
    assert epochs.keys() == {"medical", "general"}


def test_the_run_has_a_page_and_a_card_without_an_exam(done: Run) -> None:
    assert '<section id="training">' in (done.folder / "report.html").read_text(encoding="utf-8")
    card = (done.folder / "mfpt" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "| mfpt | general |" in card and "Not evaluated." in card


def test_a_text_that_is_trained_on_cannot_be_held_out(tmp_path: Path) -> None:
    texts = {"ja": [str(tmp_path / "medical.jsonl")]}
    run = write(tmp_path, validation={"texts": texts})
    with pytest.raises(InputError, match=r"validation.texts.ja: .* is in the corpus, too; take it out of one"):
        run_pipeline(STAGES.values(), run, "mfpt", lambda *_: None)


def test_a_weight_for_no_source_is_one_line(tmp_path: Path) -> None:
    run = write(tmp_path)
    corpus = run.recipe.model_dump(exclude_none=True)["corpus"] | {"mixing": {"weights": {"medicine": 2.0}}}
    with pytest.raises(InputError, match="unknown source or language in weights 'medicine': did you mean medical"):
        run_pipeline(STAGES.values(), write(tmp_path, corpus=corpus), "corpus", lambda *_: None)
