"""Check the demo's claim on three seeds and both controls and print a table. Exit code 1 if it is not confirmed.

python benchmarks/demo.py --output /tmp/demo        about 15 minutes on two cores; a second call resumes
"""

import argparse
import subprocess
import sys
from pathlib import Path

from jmedllm.evaluation.statistics import Score
from jmedllm.report import collect

RECIPE = Path(__file__).parents[1] / "recipes" / "demo.yaml"
MODELS = ("base", "mfpt", "mpeft")
CONTROLS = ("without-test-facts", "blanked-subject")


def main() -> None:
    """Run the missing runs, print the table and check the claim."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seeds", default="0,1,2")
    options = parser.parse_args()
    runs = {f"seed {seed}": run(options.output, seed) for seed in options.seeds.split(",")}
    controls = {control: run(options.output, "0", control) for control in CONTROLS}
    print(table(runs | controls))
    broken = [name for name, scores in runs.items() if not is_confirmed(scores)]
    if broken:
        sys.exit(f"the claim is not confirmed for {', '.join(broken)}")


def run(folder: Path, seed: str, control: str | None = None) -> dict[tuple[str, str], Score]:
    """Likelihood accuracy by model and language."""
    name = f"seed{seed}" + (f".{control}" if control else "")
    more = ["--control", control] if control else []
    command = [sys.executable, "-m", "jmedllm", "run", RECIPE, "--seed", seed, "--output", folder / name, *more]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return {
        (result.model, score.language): score
        for result in collect([folder / name])
        for score in result.scores
        if score.metric == "accuracy"
    }


def is_confirmed(scores: dict[tuple[str, str], Score]) -> bool:
    """Whether the 95 % interval of Japanese accuracy after both stages is above the interval of the base model."""
    return scores["mpeft", "ja"].low > scores["base", "ja"].high


def table(runs: dict[str, dict[tuple[str, str], Score]]) -> str:
    """One row for each run: accuracy in % by model, and the 95 % interval after both stages."""
    head = "| run | ja: base → stage 1 → stage 2 | 95 % | en: base → stage 1 → stage 2 | 95 % |"
    lines = [head, "|---|---|---|---|---|"]
    for name, scores in runs.items():
        cells = [name]
        for language in ("ja", "en"):
            values = [f"{100 * scores[model, language].value:.0f}" for model in MODELS]
            last = scores["mpeft", language]
            cells += [" → ".join(values), f"[{100 * last.low:.0f}, {100 * last.high:.0f}]"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
