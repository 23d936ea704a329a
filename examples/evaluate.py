"""Evaluate a model from Python and look at single answers.

python examples/evaluate.py MODEL_DIR --data data
"""

import argparse
from pathlib import Path

from jmedllm.api import evaluate, load, open_model
from jmedllm.evaluation.records import read_samples, read_scores

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("model", type=Path)
parser.add_argument("--data", type=Path, default=Path("data"))
parser.add_argument("--output", type=Path, default=Path("results/example"))
options = parser.parse_args()

# Questions are plain values: filter them as you like.
questions = [question for question in load("igakuqa", "ja", data=options.data) if question.id.startswith("116A")]
model = open_model(options.model)
result = evaluate(model, questions, scorers=["answer", "likelihood"], output=options.output, max_new_tokens=32)

for score in result.scores:
    print(f"{score.scorer} {score.metric}: {score.value:.1%} [{score.low:.1%}, {score.high:.1%}] of {score.n}")

# Every item has a sample (what the model gave) and item scores (what the scorers made of it).
samples = read_samples(options.output / "igakuqa.ja.samples.jsonl")
scores = read_scores(options.output / "igakuqa.ja.scores.jsonl")
for question in questions[:3]:
    print(f"\n{question.id} {question.stem[:60]}")
    print(f"  wrote {samples[question.id].response!r}, read as {scores[question.id].item_scores['answer']}")
