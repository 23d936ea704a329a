"""The model card says all that a reader must know, from the files of the run."""

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from huggingface_hub import ModelCard, ModelCardData

from jmedllm.corpus.documents import Document
from jmedllm.evaluation.evaluate import EvalConfig, evaluate_tasks, tasks
from jmedllm.evaluation.evaluate_task import PreparedModel
from jmedllm.evaluation.prompts.format import PromptConfig
from jmedllm.evaluation.result import EvalResult
from jmedllm.evaluation.statistics import compare_pairs
from jmedllm.hardware import hardware
from jmedllm.recipe import Recipe, recipe_hash
from jmedllm.report.card import Findings, model_card
from jmedllm.report.card.adapter import AdapterFindings, adapter_card
from jmedllm.report.compare import Comparison, Side
from jmedllm.report.training import TrainedStage

RECIPE = Recipe.model_validate(
    {
        "name": "mine",
        "base": {"path": "org/base", "revision": "abc123"},
        "corpus": {"inputs": ["corpus"]},
        "validation": {"held_out": 0.05, "texts": {"general": ["wiki.txt"]}},
        "mfpt": {"steps": 10, "learning_rate": 5e-5, "early_stopping": {"metric": ["bits_per_byte.ja"]}},
        "mpeft": {
            "steps": 5,
            "learning_rate": 1e-4,
            "questions": [
                {"benchmark": "medqa", "languages": ["en"]},
                {"benchmark": "custom.jsonl", "languages": ["ja"]},
            ],
        },
    }
)

DOCUMENTS = [
    Document("1", "壊血病" * 10, "ja", "journal | A", "CC-BY-4.0"),
    Document("2", "scurvy", "en", "journal | A", "CC-BY-4.0"),
    Document("3", "beri", None, None, None),
]

BUILT = {
    "duplicates": {"exact": 12, "near": 345},
    "emptied": 3,
    "read_errors": 4,
    "contaminated": {"igakuqa": {"items": 2, "places": 3}},
    "questions": {"igakuqa ja": 2000},
}

EVALUATED = {"ja": {"documents": 9, "bytes": 8000}, "general": {"documents": 7, "bytes": 60_000}}
EVALUATIONS = [
    {"step": 0, "bits_per_byte": {"ja": 1.0, "general": 0.8}},
    {"step": 5, "bits_per_byte": {"ja": 0.75, "general": 0.84}},
    {"step": 10, "bits_per_byte": {"ja": 0.9, "general": 0.9}},
]


def stage(name: str, evaluations: list[dict[str, Any]], best: int | None = 5) -> TrainedStage:
    made = {"steps": 10, "block_size": 2048, "trained_tokens": 12345, "final_loss": 1.25, "evaluated": EVALUATED}
    made |= {} if best is None else {"best_step": best}
    rows = [{"step": 10, "seconds": 5400.0, "waiting": 0.0}]
    return TrainedStage(name, made, rows, evaluations, date(2026, 11, 21))


def entry(rate: float, made: dict[str, object]) -> dict[str, object]:
    return {
        "inputs": {"settings": {"learning_rate": rate}, "model": "feed0"},
        "outputs": made,
        "hardware": "NVIDIA H200, 140 GiB",
        "versions": {"jmedllm": "0.1", "torch": "2.13.0"},
    }


STAGES = {
    "corpus": entry(0, {"base": "feed0"}),
    "mfpt": entry(5e-5, {"model": "feed1", "epochs": {"journal | A": 1.5}}),
    "mpeft": entry(1e-4, {"adapter": "feed2", "examples": 1234, "dropped": 56}),
    "merge": entry(0, {"model": "feed3", "divergence": 0.000123}),
}
MODEL = (
    "Fingerprint of the model (merge): `feed3`",
    "Merge: 0.00012 nats per token from the model as it was trained (mean KL divergence)",
)
TRAINING = [stage("mfpt", EVALUATIONS), stage("mpeft", EVALUATIONS, best=None)]
EXAMPLES = ("medqa (en; split train), licence: MIT", "Examples: 1,234; left out as too long: 56")
FOUND = Findings(RECIPE, STAGES, TRAINING, "mpeft", MODEL, EXAMPLES, DOCUMENTS)


def changed(recipe: Mapping[str, Any]) -> Recipe:
    return Recipe.model_validate(RECIPE.model_dump(exclude_none=True) | recipe)


class Silent:
    """Finds the first choice likeliest."""

    name = "mpeft"

    def chat_text(self, messages):
        return ""

    def answer(self, requests, generation_config):
        from jmedllm.models.backends.base import Response

        for index, request in enumerate(requests):
            yield index, Response(None, tuple(-float(place) for place in range(len(request.choices))))


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[EvalResult]:
    folder = tmp_path_factory.mktemp("evaluated")
    evaluated = tasks(EvalConfig(benchmarks=["demo"], scorers=["likelihood"]), PromptConfig(pack="plain"), folder)
    identity = {"model": "mpeft", "fingerprint": "feed3", "precision": "float32"}
    return evaluate_tasks(evaluated, PreparedModel(identity, Silent), folder)


@pytest.fixture(scope="module")
def card(results: list[EvalResult]) -> str:
    right = [True] * 30 + [False] * 10, [True] * 38 + [False] * 2
    pair = compare_pairs(*right, binary=True)
    found = replace(
        FOUND,
        held_out={"ja": 2, "general": 1},
        built={"medical text": BUILT, "general text": BUILT | {"contaminated": {}}},
        parameters=7_615_616_512,
        results=results,
        compared=[
            Comparison(
                "models",
                "demo",
                "likelihood",
                Side("base", "ja"),
                Side("mpeft", "ja"),
                pair,
            )
        ],
    )
    return model_card(found)


EXPECTED = [
    "**It is not a medical device**",
    "- Base: org/base, revision abc123\n",
    "- Fingerprint of the model (merge): `feed3`",
    "- Parameters: 7,615,616,512\n- Trained until: 2026-11-21\n",
    "- Merge: 0.00012 nats per token from the model as it was trained",
    "| journal \\| A | ja | CC-BY-4.0 | 1 | 90 |",
    "| journal \\| A | en | CC-BY-4.0 | 1 | 6 |",
    "| unnamed | unknown | **unknown** | 1 | 4 |",
    "Held-out documents, not trained on: 3 of 6, 50.0% (ja 2, general 1).",
    "Read in stage 1: journal | A 1.5 times.",
    "| medical text | 12 | 345 | 3 | 4 |\n| general text | 12 | 345 | 3 | 4 |",
    "- Removed from the medical text for igakuqa: 3 places that contain 2 of its items",
    "- Checked against the medical text and the general text: igakuqa ja (2,000 items)",
    "## Questions and instructions\n\n- medqa (en; split train), licence: MIT\n- Examples: 1,234; left out as",
    "| mfpt | 10 | step 5, the best by bits_per_byte.ja | 12,345 | 5e-05 | 1.2500 | 1.50 | NVIDIA H200, 140 GiB |",
    "| mpeft | 10 | step 10, the last | 12,345 |",
    "- Adapter: lora, rank 16, alpha 32, dropout 0, on all-linear; its base was not quantized while",
    f"- Recipe hash: `{recipe_hash(RECIPE)}`",
    "| mfpt | ja | 9 | 8,000 | 1.0000 | 0.7500 | -25.00 %, too little text |",
    "| mfpt | general | 7 | 60,000 | 0.8000 | 0.8400 | +5.00 % |",
    "| base to final | general | 7 | 60,000 | 0.8000 | 0.9000 | +12.50 % |",
    "A rise on general text is forgetting.",
    "| demo ja | likelihood | base → mpeft | 40 | +20.0 | ",
    " | 0.008 | 0.008 |",
    "- The model writes fluent text that can be wrong",
]


@pytest.mark.parametrize("part", EXPECTED, ids=lambda part: part[:40])
def test_the_card_contains(card: str, part: str) -> None:
    assert part in card


def test_scores_have_n_interval_floor_and_ceiling(card: str, results: list[EvalResult]) -> None:
    [score] = [s for s in results[0].scores if s.metric == "accuracy"]
    floors = f"20.0 / {100 * score.constant_floor:.1f}"
    assert (
        f"| demo | ja | likelihood accuracy | 143 | {floors} | 100.0 | {100 * score.value:.1f}~ "
        f"({100 * score.low:.1f} to {100 * score.high:.1f}) |"
    ) in card


def test_the_recipe_in_the_card_is_the_recipe(card: str) -> None:
    [text] = re.findall(r"```yaml\n(.*?)```", card, re.DOTALL)
    assert Recipe.model_validate(yaml.safe_load(text)) == RECIPE


RANDOM = {"base": {"random_init": {"layers": 1}}}
BARE = replace(
    FOUND,
    recipe=RECIPE.model_copy(update={"validation": None, "corpus": None, "mfpt": None}),
    stages={"mpeft": STAGES["mpeft"]},
    training=[stage("mpeft", [], best=None)],
    model=["Fingerprint of the base: `feed0`"],
    examples=[],
    documents=[],
)
SHORT_WINDOWS = replace(TRAINING[0], outputs=TRAINING[0].outputs | {"block_size": 512})
ONLY_JAPANESE = [{"step": step, "bits_per_byte": {"ja": 1.0}} for step in (0, 5)]
FEW = {"general": {"documents": 1, "bytes": 144}}
MANY = [Document(str(n), "text", "en", f"file{n:03d}.txt", ("MIT", None)[n % 2]) for n in range(80)]

CASES = {
    "no corpus": (BARE, "None: the model was tuned on questions and instructions only."),
    "its base is known": (BARE, "revision abc123\n- Fingerprint of the base: `feed0`\n"),
    "cleaned by others": (FOUND, "It is unknown what was removed earlier"),
    "nothing held out": (BARE, "Not measured: the recipe has no `validation` section with texts."),
    "no examples": (BARE, "## Questions and instructions\n\nNone: no stage was trained on questions or instructions."),
    "no evaluation": (BARE, "## Evaluation\n\nNot evaluated.\n\n## Limits"),
    "a random base": (
        replace(FOUND, recipe=changed(RANDOM)),
        "randomly initialized: architecture qwen2, vocab",
    ),
    "no general text": (
        replace(FOUND, training=[stage("mfpt", ONLY_JAPANESE)]),
        "**No general text was held out**: forgetting is not known.",
    ),
    "little general text": (
        replace(FOUND, training=[replace(TRAINING[0], outputs=TRAINING[0].outputs | {"evaluated": EVALUATED | FEW})]),
        "**Less than 10,000 bytes of general text were held out**: forgetting is not known.",
    ),
    "other windows": (
        replace(FOUND, training=[SHORT_WINDOWS, TRAINING[1]]),
        "from the base to the final model: the texts were read by mfpt in windows of 512 tokens, mpeft in windows of "
        "2,048 tokens.",
    ),
    "a stage in vain": (
        replace(FOUND, training=[stage("mfpt", EVALUATIONS, best=0)]),
        "- **Stage mfpt improved nothing: the weights of step 0 were kept.**",
    ),
    "small sources keep their licence": (
        replace(FOUND, documents=MANY),
        "| smaller sources: 30 | en | **unknown** | 30 | 120 |\n| smaller sources: 30 | en | MIT | 30 | 120 |",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_card_of_another_run_contains(name: str) -> None:
    found, part = CASES[name]
    assert part in model_card(found)


def test_unknown_facts_are_not_claimed() -> None:
    card = model_card(FOUND)
    assert not [word for word in ("Held-out documents", "Parameters", "RandomInit(") if word in card]
    assert "unknown what was removed" not in model_card(BARE)
    assert "base to final" not in model_card(CASES["other windows"][0])


DEVICES = [
    ("cuda", "1", "NVIDIA H200, 140 GiB"),
    ("cuda", "16", "16 × NVIDIA H200, 140 GiB"),
    ("cpu", "2", "2 processes on machines of "),
]


@pytest.mark.parametrize(("device", "processes", "expected"), DEVICES)
def test_all_devices_are_counted(monkeypatch: pytest.MonkeyPatch, device: str, processes: str, expected: str) -> None:
    monkeypatch.setenv("WORLD_SIZE", processes)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H200")
    memory = SimpleNamespace(total_memory=140 * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: memory)
    assert hardware(torch.device(device)).startswith(expected)


def hub(card: str) -> ModelCardData:
    """Read the header as the Hugging Face Hub does."""
    return ModelCard(card).data


def test_the_header_is_what_the_hub_reads(card: str, results: list[EvalResult]) -> None:
    data = hub(card)
    assert (data.base_model, data.library_name, data.pipeline_tag) == ("org/base", "transformers", "text-generation")
    assert (data.language, data.license, data.license_link) == (["en", "ja"], "other", "README.md")
    assert data.model_name == "mine" and "[More Information Needed]" not in card
    scored = {(s.language, s.metric): s for result in results for s in result.scores}
    assert len(data.eval_results) == len(scored) == 4
    for each in data.eval_results:
        score = scored[each.dataset_config, each.metric_type]
        assert each.dataset_name == f"demo {score.language}" and each.metric_value == round(100 * score.value, 1)
        assert f"n {score.n}" in each.metric_name and "95 % interval" in each.metric_name


HEADERS = {
    "a model that was not evaluated": (FOUND, {"base_model": "org/base", "language": ["en", "ja"]}),
    "a random base": (replace(FOUND, recipe=changed(RANDOM)), {"base_model": None, "base_model_relation": None}),
    "a base on this disk": (replace(FOUND, recipe=changed({"base": {"path": "/models/base"}})), {"base_model": None}),
    "no language known": (BARE, {"language": None}),
}


@pytest.mark.parametrize("name", HEADERS)
def test_the_header_claims_only_what_is_known(name: str) -> None:
    found, expected = HEADERS[name]
    data = hub(model_card(found)).to_dict()
    assert {key: data.get(key) for key in expected} == expected
    assert "model-index" not in data


ADAPTER = AdapterFindings(
    recipe=RECIPE,
    stages=STAGES,
    training=TRAINING[1],
    base="base",
    base_fingerprint="feed0",
    model="mpeft",
    about=["Fingerprint of the adapter (mpeft): `feed2`"],
    data=EXAMPLES,
)
ON_MFPT = replace(ADAPTER, base="mfpt", base_fingerprint="feed1")

ADAPTER_CASES = {
    "its base": (ADAPTER, "## Base\n\n- Base: org/base, revision abc123\n- Fingerprint of the model that the adapter"),
    "its fingerprint": (ADAPTER, "- Fingerprint of the adapter (mpeft): `feed2`"),
    "a base from the run": (ON_MFPT, "- Base: `mfpt`, a model of the same run; apply the adapter to this model"),
    "where the run began": (ON_MFPT, "- Start of the run: org/base, revision abc123\n"),
    "its data": (ADAPTER, "## Data\n\n- medqa (en; split train), licence: MIT\n"),
    "its settings": (ADAPTER, "- Adapter: lora, rank 16, alpha 32,"),
    "its hash": (ADAPTER, f"- Recipe hash: `{recipe_hash(RECIPE)}`"),
    "no evaluation": (ADAPTER, "## Evaluation\n\nNot evaluated.\n"),
    "limits": (ADAPTER, "- The model writes fluent text that can be wrong"),
}


@pytest.mark.parametrize("name", ADAPTER_CASES)
def test_the_card_of_an_adapter_contains(name: str) -> None:
    found, part = ADAPTER_CASES[name]
    assert part in adapter_card(found)


def test_the_header_of_an_adapter(results: list[EvalResult]) -> None:
    card = adapter_card(replace(ADAPTER, results=results))
    data = hub(card)
    assert (data.base_model, data.base_model_relation, data.library_name) == ("org/base", "adapter", "peft")
    assert len(data.eval_results) == 4 and "Measured on `mpeft`" in card
    # A base that is not on the Hub is not in the header.
    assert hub(adapter_card(ON_MFPT)).to_dict().get("base_model") is None
