"""The datatrove pipeline of examples/: the same texts as from one machine."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from jmedllm.corpus.documents import open_documents
from jmedllm.corpus.pipeline.build import BuildConfig, build, shards

pytest.importorskip("datatrove")
EXAMPLE = Path(__file__).parents[1] / "examples" / "corpus_cluster.py"


def test_the_pipeline_makes_the_corpus_that_one_machine_makes(tmp_path: Path) -> None:
    """Files over several tasks, repeated across files, near and short: two runs, the second with nothing to do."""
    long = "".join(f"第{n}の症例では{n * 37 % 91}日目に解熱し、{n % 7 + 2}週後に退院した。" for n in range(40))
    raw = tmp_path / "raw"
    raw.mkdir()
    for number, texts in enumerate(
        (["壊血病。", long], ["壊血病。", f"{long}経過は良好である。"], ["脚気。", "痛風。"])
    ):
        lines = (json.dumps({"id": f"{number}", "text": f"{text}<br>"}) + "\n" for text in texts)
        (raw / f"{number}.jsonl").write_text("".join(lines))
    command = [
        sys.executable,
        str(EXAMPLE),
        str(raw),
        "--output",
        str(tmp_path / "out"),
        "--tasks",
        "2",
    ]
    command += ["--data", str(tmp_path)]
    for _ in range(2):
        subprocess.run(command, check=True, capture_output=True, timeout=100)
        made = open_documents(sorted((tmp_path / "out").glob("documents-*.jsonl")))
        build(BuildConfig((raw,)), [], tmp_path / "one", 1)
        here = open_documents(shards(tmp_path / "one"))
        kept = [sorted(document.text[:50] for document in documents) for documents in (made, here)]
        assert kept[0] == kept[1] == sorted(["壊血病。", long[:50], "脚気。", "痛風。"])
        assert made[0].language == "ja"
