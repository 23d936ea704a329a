"""Measure on the demo whether tuning in one language improves the other, and whether it needs stage 1.

python benchmarks/transfer.py --output /tmp/transfer      about 35 minutes on one core; a second call resumes

Stage 2 on Japanese, English, both or nothing, with stage 1 and without; evaluated in both languages on facts that no
question of stage 2 covers. Accuracy is that of scorer likelihood.
"""

import argparse
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from jmedllm.evaluation.statistics import Paired, compare_pairs, holm
from jmedllm.report.collect import collect

RECIPE = Path(__file__).parents[1] / "recipes" / "demo.yaml"
TUNED = {
    ("with stage 1", "ja"): "stage2-ja",
    ("with stage 1", "en"): "stage2-en",
    ("with stage 1", "both"): None,
    ("without", "ja"): "without-stage1-ja",
    ("without", "en"): "without-stage1-en",
    ("without", "both"): "without-stage1",
}
"""Stage 1 and stage 2, and the control of the recipe that selects them."""

Right = dict[str, bool]
"""By item, whether the answer was right."""

Cell = tuple[str, str]
"""Stage 1 and stage 2 of a model."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Two models to compare, and the language in which they are evaluated."""

    text: str
    language: str
    before: Cell
    after: Cell


CLAIMS = [
    Claim("Japanese questions raise English", "en", ("with stage 1", "none"), ("with stage 1", "ja")),
    Claim("English questions raise Japanese", "ja", ("with stage 1", "none"), ("with stage 1", "en")),
    Claim("both languages beat Japanese alone, in Japanese", "ja", ("with stage 1", "ja"), ("with stage 1", "both")),
    Claim("both languages beat English alone, in English", "en", ("with stage 1", "en"), ("with stage 1", "both")),
    Claim("both beat Japanese alone, in English", "en", ("with stage 1", "ja"), ("with stage 1", "both")),
    Claim("both beat English alone, in Japanese", "ja", ("with stage 1", "en"), ("with stage 1", "both")),
    Claim("stage 1 matters to stage 2, in Japanese", "ja", ("without", "both"), ("with stage 1", "both")),
    Claim("stage 1 matters to stage 2, in English", "en", ("without", "both"), ("with stage 1", "both")),
    Claim("stage 2 alone raises Japanese", "ja", ("without", "none"), ("without", "both")),
    Claim("stage 2 alone raises English", "en", ("without", "none"), ("without", "both")),
    Claim("stage 1 alone raises Japanese", "ja", ("without", "none"), ("with stage 1", "none")),
    Claim("stage 1 alone raises English", "en", ("without", "none"), ("with stage 1", "none")),
]


def main() -> None:
    """Run the missing runs and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seeds", default="0,1,2")
    options = parser.parse_args()
    seeds = {seed: evaluate_model(options.output / f"seed{seed}", seed) for seed in options.seeds.split(",")}
    print(accuracies(seeds))
    print()
    print(claims(seeds))


def evaluate_model(folder: Path, seed: str) -> dict[tuple[Cell, str], Right]:
    """The right answers of each model in each language. The conditions of a seed share its stage 1."""
    found: dict[tuple[Cell, str], Right] = {}
    for (first, second), control in TUNED.items():
        kept = folder / (control or "plain")
        if not kept.exists():
            more = ["--control", control] if control else []
            command = [sys.executable, "-m", "jmedllm", "run", str(RECIPE), "--seed", seed, *more]
            subprocess.run([*command, "--output", str(folder / "run")], check=True, stdout=subprocess.DEVNULL)
            shutil.copytree(folder / "run" / "eval", folder / "copy", dirs_exist_ok=True)
            (folder / "copy").rename(kept)
            shutil.rmtree(folder / "run" / "mpeft")  # a run never deletes its training by itself
        before = {"base": ("without", "none"), "mfpt": ("with stage 1", "none")}
        for each in collect([kept]):
            cell = before.get(each.result.model, (first, second))
            right = {id: item.scores["likelihood"]["value"] == 1 for id, item in each.items.items()}
            found[cell, each.task[1]] = right
    return found


def accuracies(seeds: dict[str, dict[tuple[Cell, str], Right]]) -> str:
    """One row for each model: accuracy in % of each seed and their mean, by language."""
    lines = [
        "| stage 1 | stage 2 | evaluated in ja, by seed | mean | evaluated in en, by seed | mean |",
        "|---|---|---|---|---|---|",
    ]
    for cell in sorted({cell for cell, _ in next(iter(seeds.values()))}, reverse=True):
        cells = list(cell)
        for language in ("ja", "en"):
            values = [100 * _share(found[cell, language]) for found in seeds.values()]
            cells += [" / ".join(f"{value:.0f}" for value in values), f"{sum(values) / len(values):.0f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def claims(seeds: dict[str, dict[tuple[Cell, str], Right]]) -> str:
    """One row for each claim: difference in points, and in how many seeds it is significant (Holm over all rows)."""
    tested = {(claim, seed): _paired(claim, found) for claim in CLAIMS for seed, found in seeds.items()}
    adjusted = dict(zip(tested, holm([each.p for each in tested.values()]), strict=True))
    lines = [
        "| claim | evaluated in | difference by seed | 95 % interval of the first | p (Holm) | shown |",
        "|---|---|---|---|---|---|",
    ]
    for claim in CLAIMS:
        pairs = [tested[claim, seed] for seed in seeds]
        ps = [adjusted[claim, seed] for seed in seeds]
        shown = sum(pair.difference > 0 and p < 0.05 for pair, p in zip(pairs, ps, strict=True))
        cells = [
            claim.text,
            claim.language,
            " / ".join(f"{100 * pair.difference:+.0f}" for pair in pairs),
            f"[{100 * pairs[0].low:+.0f}, {100 * pairs[0].high:+.0f}]",
            " / ".join("< 0.001" if p < 0.001 else f"{p:.3f}" for p in ps),
            f"{shown} of {len(seeds)}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _paired(claim: Claim, found: dict[tuple[Cell, str], Right]) -> Paired:
    before, after = found[claim.before, claim.language], found[claim.after, claim.language]
    return compare_pairs([before[item] for item in before], [after[item] for item in before], binary=True)


def _share(right: Right) -> float:
    return sum(right.values()) / len(right)


if __name__ == "__main__":
    main()
