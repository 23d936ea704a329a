"""Terms on the page that a physician may not know: tooltips, and the section at the end."""

from collections.abc import Mapping

from jmedllm.evaluation.scorers import SCORERS

TERMS = {
    "n": "number of items.",
    "95 % interval": (
        "confidence interval: the range that contains the true value in 95 of 100 experiments of this kind. It "
        "covers the choice of items, not that of prompt or training seed."
    ),
    "floor": "score without any skill on these items: that of guessing or, for scorer legacy, of an empty answer. "
    "A second value is that of the best constant answer, such as always the first choice, where it is higher.",
    "ceiling": "score of the right answers themselves; below 100 % where a scorer cannot recognize some of them.",
    "scorer": "how an answer is read and marked; see answer, likelihood, legacy, official.",
    "answer": "scorer: reads the answer from the text that the model writes.",
    "likelihood": "scorer: takes the choice to which the model gives the highest probability; nothing is written.",
    "legacy": "scorer: the protocol of the published scores, for comparison with them; similar text counts as right.",
    "official": "scorer: the ministry's rule for the Japanese licence exam: points, pass marks, prohibited choices.",
    "accuracy per byte": "likelihood relative to the length of the choice, so that long choices have no disadvantage.",
    "gestalt match": "the choice most similar to the response, by longest common parts, is the right one.",
    "exact match": "the response is the right choice, character for character.",
    "−/+": "items that only the first or only the second got right, or on which it has the higher score.",
    "p": (
        "probability of a difference at least this large if both are equally good: exact McNemar test, for graded "
        "scores and means of several samples a permutation test."
    ),
    "p (Holm)": "p adjusted for the number of comparisons (Holm 1979); a difference is shown where it is below 0.05.",
    "min. detectable": (
        "minimum detectable difference: the smallest difference that this many items show with 80 % power at the "
        "5 % level."
    ),
    "ECE": (
        "expected calibration error: mean distance between the model's confidence and the share right, in percentage "
        "points."
    ),
    "Brier score": "squared error of the probabilities, 0 (perfect) to 2; guessing among four choices gives 0.75.",
    "rotations": "the same question asked several times with its choices in another order.",
    "samples": "several responses to the same prompt, each with random numbers of its own.",
    "vote": "share right of the answers that most responses to an item give.",
    "pass@k": "chance that at least one of k responses is right.",
    "truncated": "cut off before the end, at the token limit; such a response may have no answer yet.",
    "position bias": "share of picks minus share of right answers at a place, in percentage points.",
    "prohibited": "choices that would harm a patient; picking too many of them fails the licence exam.",
    "loss": "how unlikely the model finds the next token, in nats; lower is better.",
    "token": "piece of text that the model reads or writes, about a syllable or a word.",
    "bits per byte": "bits that the model needs for a byte of text; lower is better. Tokenizers do not affect it.",
    "forgetting": "a rise in bits per byte on general text.",
    "held-out text": "text that was kept out of training, to measure on.",
    "gradient norm": "size of a training step before it is limited.",
    "prompt pack": "the wording in which questions are put to the model.",
    "shots": "solved examples before each question.",
    "chat": "questions are asked through the model's chat template, as its users would.",
    "selection": "rule that decides which items of a benchmark are asked.",
    "fingerprint": "hash that identifies the content of a model.",
    "precision": "number format of the weights while the model is evaluated.",
    "GiB": "gibibyte, 1,073,741,824 bytes of memory.",
    "KL": "mean KL divergence of one model's predictions from another's, in nats per token; 0 if they are the same.",
    "top-1": "share of positions at which both models find the same token most likely.",
    "McNemar test": "test for two models on the same items; only items on which they differ count.",
}


def glossary(models: Mapping[str, str]) -> dict[str, str]:
    """Return all terms with their meaning; scorers of other packages are explained by their summary.

    Args:
        models: names of models and what they are.
    """
    scorers = {name: f"scorer: {scorer.summary}." for name, scorer in SCORERS.items()}
    return dict(models) | scorers | TERMS
