"""Measure the time that the answer reader takes on a reply of 60,000 characters of each shape.

    python benchmarks/reader.py --characters 60000

Prints one line for each shape, slowest first: milliseconds of CPU time for one reply, the maximum over three kinds of
questions.
"""

import argparse
import time

from jmedllm.evaluation.question import Question
from jmedllm.evaluation.reading import read_answer

CANCERS = ("胃癌", "大腸癌", "膵癌", "肝癌", "胆嚢癌")
QUESTIONS = {
    "one choice": Question("q", "own", "ja", "診断はどれか。", CANCERS, frozenset({1})),
    "two choices": Question("q", "own", "ja", "2つ選べ。", CANCERS, frozenset({1, 3}), select=2),
    "a number": Question("q", "own", "ja", "求めよ。", (), frozenset(), number="1130"),
}
SHAPES = (
    *("**a**", "**", "(", "[", "{", "「", "\n", " ", "\t", "a", "A ", "a, ", "a.\n", "- a\n", "b or "),
    *("(a) ", "a: ", "a → ", "aは", "a以外", "aではなく", "a~", "1", "1 ", "12,", "1.1", "①", "10%"),
    *("3番", "選択肢3", "胃癌", "胃癌、", "胃癌\n", "Answer:", "Answer: A\n", "The answer is "),
    *("答え：", "答えはa。", "【回答】", "not A. ", "cannot ", "if ", "wait, ", "| a | × |\n"),
    *("a. 正しい\n", "a × ", "\\boxed{", "\\boxed{a}", "\\text{", '{"a":', '"answer": "'),
    *('{"answer": [', "<answer>", "<answer>a", "<b>", "<think>", "</think>", "<|im_end|>"),
    *("<|channel|>", "Q: a\nA:", "Question 1:\n", "診断はどれか。"),
    *("胃癌、大腸癌、膵癌、肝癌、胆嚢癌。", "the most likely ", "I would ", "[a](", "→", "。", ". "),
)  # fmt: skip


def milliseconds(question: Question, reply: str) -> float:
    """CPU time of reading a reply, in milliseconds."""
    start = time.process_time()
    read_answer(question, reply)
    return 1000 * (time.process_time() - start)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--characters", type=int, default=60_000)
    size = parser.parse_args().characters
    worst = {}
    for shape in SHAPES:
        reply = (shape * (size // len(shape) + 1))[:size]
        worst[shape] = max((milliseconds(question, reply), kind) for kind, question in QUESTIONS.items())
    for shape, (spent, kind) in sorted(worst.items(), key=lambda row: -row[1][0]):
        print(f"{spent:8.1f} ms  {kind:12} {shape!r}")


if __name__ == "__main__":
    main()
