"""The model card says all that a reader must know, from what the run wrote down itself."""

import re

import pytest
import yaml

from jmedllm.corpus.read import Document
from jmedllm.exam.examine import ExamSettings, papers, sit_papers
from jmedllm.exam.prompts.asking import Prompting
from jmedllm.exam.sitting import Sitting
from jmedllm.recipe import Recipe
from jmedllm.report.card import model_card, recipe_hash
from jmedllm.report.training import TrainedStage

RECIPE = Recipe.model_validate(
    {
        "name": "mine",
        "base": {"path": "org/base", "revision": "abc123"},
        "corpus": {"inputs": ["corpus"]},
        "evaluate": {"held_out": 0.05, "texts": {"general": ["wiki.txt"]}},
        "mfpt": {"steps": 10, "learning_rate": 5e-5, "watch": {"best_by": ["bits_per_byte.ja"]}},
        "mpeft": {
            "steps": 5,
            "learning_rate": 1e-4,
            "questions": [
                {"benchmark": "medqa", "languages": ["en"]},
                {"benchmark": "own.jsonl", "languages": ["ja"]},
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
    "unread": 4,
    "leaked": {"igakuqa": {"items": 2, "places": 3}},
    "questions": {"igakuqa ja": 2000},
}

EVALUATED = {"ja": {"documents": 9, "bytes": 8000}, "general": {"documents": 7, "bytes": 6000}}
EVALUATIONS = [
    {"step": 0, "bits_per_byte": {"ja": 1.0, "general": 0.8}},
    {"step": 5, "bits_per_byte": {"ja": 0.75, "general": 0.84}},
    {"step": 10, "bits_per_byte": {"ja": 0.9, "general": 0.9}},
]


def stage(name: str, evaluations: list[dict[str, object]]) -> TrainedStage:
    made = {"steps": 10, "trained_tokens": 12345, "final_loss": 1.25, "best_step": 5, "evaluated": EVALUATED}
    return TrainedStage(name, made, [{"step": 10, "seconds": 5400.0, "waiting": 0.0}], evaluations)


def entry(rate: float, made: dict[str, object]) -> dict[str, object]:
    return {
        "inputs": {"settings": {"learning_rate": rate}},
        "made": made,
        "hardware": "NVIDIA H200, 140 GiB",
        "versions": {"jmedllm": "0.1", "torch": "2.13.0"},
    }


STAGES = {
    "corpus": entry(0, {"base": "feed0"}),
    "mfpt": entry(5e-5, {"model": "feed1", "epochs": {"journal | A": 1.5}}),
    "mpeft": entry(1e-4, {"adapter": "feed2", "examples": 1234}),
    "merge": entry(0, {"model": "feed3"}),
}


class Silent:
    """Finds the first choice likeliest."""

    name = "mpeft"

    def chat_text(self, messages):
        return ""

    def answer(self, requests, writing):
        from jmedllm.models import Response

        for index, request in enumerate(requests):
            yield index, Response(None, tuple(-float(place) for place in range(len(request.choices))))


@pytest.fixture(scope="module")
def sittings(tmp_path_factory: pytest.TempPathFactory) -> list[Sitting]:
    folder = tmp_path_factory.mktemp("sat")
    sat = papers(ExamSettings(benchmarks=["demo"], tracks=["likelihood"]), Prompting(pack="plain"), folder)
    stands_for = {"model": "mpeft", "fingerprint": "feed3", "precision": "float32"}
    return sit_papers(sat, stands_for, Silent, folder)


@pytest.fixture(scope="module")
def card(sittings: list[Sitting]) -> str:
    training = [stage("mfpt", EVALUATIONS), stage("mpeft", EVALUATIONS)]
    return model_card(RECIPE, STAGES, DOCUMENTS, [BUILT], sittings, training)


TOLD = [
    "**It is not a medical device**",
    "- Base: org/base\n- Revision: abc123\n",
    "- Fingerprint of the model (merge): `feed3`",
    "| journal \\| A | ja | CC-BY-4.0 | 1 | 90 |",
    "| journal \\| A | en | CC-BY-4.0 | 1 | 6 |",
    "| unnamed | unknown | **unknown** | 1 | 4 |",
    "Held out of training: 5.0% of the documents.",
    "- journal | A: read 1.5 times in stage 1",
    "- Left out: 12 documents that repeat another, 345 nearly so",
    "- Cut out for igakuqa: 3 passages that give away 2 of its items",
    "- Searched for: igakuqa ja (2,000 items)",
    "- own.jsonl (ja; split train), licence: **unknown**",
    "- Examples: 1,234",
    "| mfpt | 10, weights of step 5 | 12,345 | 5e-05 | 1.2500 | 1.50 | NVIDIA H200, 140 GiB |",
    f"- Recipe hash: `{recipe_hash(RECIPE)}`",
    "| mfpt | ja | 9 | 8,000 | 1.0000 | 0.7500 | -25.00 % |",
    "| mfpt | general | 7 | 6,000 | 0.8000 | 0.8400 | +5.00 % |",
    "A rise on general text is forgetting.",
    "- The model writes fluent text that is wrong",
]


@pytest.mark.parametrize("part", TOLD, ids=lambda part: part[:40])
def test_the_card_tells(card: str, part: str) -> None:
    assert part in card


def test_scores_stand_with_n_interval_floor_and_ceiling(card: str, sittings: list[Sitting]) -> None:
    [score] = [s for s in sittings[0].scores if s.metric == "accuracy"]
    assert (
        f"| mpeft | demo | ja | likelihood accuracy | 143 | {100 * score.value:.1f}~ | {100 * score.low:.1f} to "
        f"{100 * score.high:.1f} | 20.0 | 100.0 |"
    ) in card


def test_the_recipe_in_the_card_is_the_recipe(card: str) -> None:
    [text] = re.findall(r"```yaml\n(.*?)```", card, re.DOTALL)
    assert Recipe.model_validate(yaml.safe_load(text)) == RECIPE


def test_what_is_not_known_is_said(sittings: list[Sitting]) -> None:
    plain = RECIPE.model_copy(update={"evaluate": None, "corpus": None, "mfpt": None})
    card = model_card(plain, {"mpeft": STAGES["mpeft"]}, [], [], [], [stage("mpeft", [])])
    assert "None: the model was tuned on questions and instructions only." in card
    assert "What was removed before is not known" in card
    assert "Not measured: the recipe has no `evaluate` section with texts." in card
    assert "## Exam\n\nNot sat." in card


def test_without_general_text_forgetting_is_not_known() -> None:
    evaluations = [{"step": step, "bits_per_byte": {"ja": 1.0}} for step in (0, 5)]
    card = model_card(RECIPE, STAGES, DOCUMENTS, [], [], [stage("mfpt", evaluations)])
    assert "**No general text was held out**: forgetting is not known." in card


def test_many_sources_stay_a_table() -> None:
    documents = [Document(str(n), "text", "en", f"file{n:03d}.txt", None) for n in range(80)]
    card = model_card(RECIPE, STAGES, documents, [], [], [stage("mfpt", [])])
    assert "file049.txt" in card and "file050.txt" not in card and "| and 30 more sources |" in card
