"""The catalogue: every file that `jmedllm data get` can fetch, with its address and checksum.

Paths are relative to the data directory and to a mirror. The checksums are in `checksums/`, in the format of
`sha256sum -c`, so that a mirror can be checked without jmedllm.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from urllib.parse import quote

from jmedllm.data.templates import templates_as_json
from jmedllm.errors import unknown


@dataclass(frozen=True)
class File:
    """One file.

    Attributes:
        path: path below the data directory, with "/".
        sha256: SHA-256 in hex; None if unknown.
        url: address at upstream; None if only a mirror has the file.
        convert: converts the upstream file to this file; None if they are the same.
    """

    path: str
    sha256: str | None
    url: str | None
    convert: Callable[[bytes], bytes] | None = None


@dataclass(frozen=True)
class Source:
    """A named set of files from one upstream.

    Attributes:
        upstream: name of the repository, or description of the origin.
        revision: commit or revision of the files.
        note: note to the user before fetching; may be empty.
    """

    name: str
    title: str
    licence: str
    upstream: str
    revision: str
    files: tuple[File, ...]
    note: str = ""

    @property
    def needs_mirror(self) -> bool:
        """Whether upstream has no address for some of the files."""
        return any(file.url is None for file in self.files)

    @property
    def unpinned(self) -> list[str]:
        """Paths of the files without a known checksum, which cannot be verified."""
        return [file.path for file in self.files if file.sha256 is None]


def _checksums(name: str) -> list[tuple[str, str]]:
    """Read (path, hash) of each file of a source from `checksums/NAME.sha256`."""
    text = (resources.files("jmedllm.data") / "checksums" / f"{name}.sha256").read_text(encoding="utf-8")
    pairs = [line.split("  ", maxsplit=1) for line in text.splitlines()]
    return [(path, digest) for digest, path in pairs]


def _github(repository: str, commit: str, path: str) -> str:
    return f"https://raw.githubusercontent.com/{repository}/{commit}/{quote(path)}"


def _mirror_only(name: str) -> tuple[File, ...]:
    return tuple(File(path, digest, None) for path, digest in _checksums(name))


IGAKUQA = "2bc4c3d159cf5505f6253d24a909fbd53237e239"
MLILAB = "d92730e8bacd7b3a61e551e015e40588e10234b4"
PHARMA = "998387e8fe73f775990ca11d0a45d2a6819bf4e3"
BIORAG = "d001e8c26264773e55af85d5e9530364d269f99d"
MEDIQ = "63acb4ccbbc082a3a7895b79d27f51204f6f9aa7"
HARNESS = "ef9544a87b7ae0dfcd51e6af701710c458a4e435"
JMLE2026 = "20c0c2ca05ff523faf4960c82145cdb48df5fd67"
IGAKUQA119 = "7480d9020722195a28df406526be9cb112f11cd4"
IGAKUQA119_OLD = "1a1f5e3f3310a0391c371fbc10af47ce180947a9"
MEDRECT = "03790cd956cfc9f0d1ab1ee3b0ff16ddebe2f75e"
JMED_LLM = "3774a34e4a26a7b8a7851f421ecad91a04c2f59b"
JMEDBENCH = "b6acb5195050bf36e146b51cd2744a5d6638abd1"

JMMLU_COMMITS = {
    # The commit that last changed each file. Commit 762cbf1 contains all of them, but its full hash is unknown.
    "a3e7ee9123a97e2516f22f8819665d04d9a1c3fc": ("clinical_knowledge",),
    "bf5dc03e46b18b6145cfeffcb3e9825fdf91bed1": (
        "anatomy",
        "college_biology",
        "high_school_biology",
        "high_school_psychology",
        "nutrition",
        "professional_psychology",
    ),
    "7729c158c22173fecb4f307558dfae17e9150dff": (
        "college_medicine",
        "human_aging",
        "human_sexuality",
        "medical_genetics",
        "professional_medicine",
        "virology",
    ),
}

MEDQA = {
    # The original distribution is an archive behind a form; these repositories have the same files.
    "medqa/4_options/phrases_no_exclude_test.jsonl": _github(
        "Taewhoo/BioRAG", BIORAG, "phrases_no_exclude_test.jsonl"
    ),
    "medqa/4_options/mediq_all_dev_good.jsonl": _github("stellalisy/mediQ", MEDIQ, "data/all_dev_good.jsonl"),
}

JMEDBENCH_SUBSETS = ("usmleqa_jp", "medqa_jp", "medmcqa_jp", "mmlu_medical_jp")
JMEDBENCH_SPLITS = ("train", "validation", "test")


def _same_layout(name: str, url: Callable[[str], str]) -> tuple[File, ...]:
    """Files whose upstream path is ours without the leading folder."""
    return tuple(File(path, digest, url(path.partition("/")[2])) for path, digest in _checksums(name))


def _jmmlu() -> tuple[File, ...]:
    hashes = dict(_checksums("jmmlu"))
    places = {
        f"jmmlu/{subject}.csv": _github("nlp-waseda/JMMLU", commit, f"JMMLU/{subject}.csv")
        for commit, subjects in JMMLU_COMMITS.items()
        for subject in subjects
    }
    return tuple(File(path, hashes[path], places[path]) for path in hashes)


def _igakuqa119() -> tuple[File, ...]:
    """Later commits, at the dataset's present address, have the same files except that of section C."""
    return tuple(
        File(path, digest, _github("docto-rin/IgakuQA119", IGAKUQA119_OLD, "question/119C_json.json"))
        if path.endswith("/119C_json.json")
        else File(path, digest, _github("naoto-iwase/IgakuQA119", IGAKUQA119, f"questions/{path.rpartition('/')[2]}"))
        for path, digest in _checksums("igakuqa119")
    )


def _medrect(path: str) -> str:
    folder = "jmle" if path.startswith("jmle-") else "medrect"
    return _github("pfnet-research/medrect", MEDRECT, f"data/{folder}/{path}")


def _jmedbench() -> tuple[File, ...]:
    places = [f"{subset}/{split}.jsonl" for subset in JMEDBENCH_SUBSETS for split in JMEDBENCH_SPLITS]
    base = f"https://huggingface.co/datasets/Coldog2333/JMedBench/resolve/{JMEDBENCH}"
    return tuple(File(f"jmedbench/{place}", None, f"{base}/{place}") for place in places)


SOURCES: Mapping[str, Source] = {
    source.name: source
    for source in (
        Source(
            name="igakuqa",
            title="IgakuQA: Japanese medical licence exams 2018-2022, with answers of five candidates",
            licence="none stated; exam text by the Japanese ministry (government terms, CC BY compatible)",
            upstream="github.com/jungokasai/IgakuQA",
            revision=IGAKUQA,
            files=_same_layout("igakuqa", lambda path: _github("jungokasai/IgakuQA", IGAKUQA, path)),
        ),
        Source(
            name="medqa",
            title="MedQA with four options: test, and dev as MediQ distributes it (used for training)",
            licence="MIT",
            upstream="github.com/jind11/MedQA, from copies in Taewhoo/BioRAG and stellalisy/mediQ",
            revision=f"BioRAG {BIORAG}, mediQ {MEDIQ}",
            files=tuple(File(path, digest, MEDQA[path]) for path, digest in _checksums("medqa")),
        ),
        Source(
            name="medqa-5",
            title="MedQA with five options: test",
            licence="MIT",
            upstream="github.com/gersteinlab/medagents-benchmark",
            revision="f5e50b6",
            files=_mirror_only("medqa-5"),
            note="put the test split with five options into MIRROR/medqa/5_options/test.jsonl",
        ),
        Source(
            name="medmcqa",
            title="MedMCQA: validation split",
            licence="MIT",
            upstream="github.com/medmcqa/medmcqa (an archive on a file-sharing site)",
            revision="not versioned",
            files=_mirror_only("medmcqa"),
            note="unpack dev.json of the original archive into MIRROR/medmcqa/",
        ),
        Source(
            name="mmlu",
            title="MMLU: 13 subjects around medicine, dev and test",
            licence="MIT",
            upstream="github.com/hendrycks/test, from the copy in HaeChan0305/MLILAB-FedLLM",
            revision=MLILAB,
            files=_same_layout("mmlu", lambda path: _github("HaeChan0305/MLILAB-FedLLM", MLILAB, f"data/mmlu/{path}")),
        ),
        Source(
            name="jmmlu",
            title="JMMLU: 13 subjects around medicine",
            licence="CC BY-SA 4.0",
            upstream="github.com/nlp-waseda/JMMLU",
            revision="762cbf1, each file at the commit that last changed it",
            files=_jmmlu(),
        ),
        Source(
            name="jmedbench",
            title="JMedBench: Japanese translations of MedQA, MedMCQA and MMLU",
            licence="that of each translated set (MIT); see the dataset card",
            upstream="huggingface.co/datasets/Coldog2333/JMedBench",
            revision=JMEDBENCH,
            files=_jmedbench(),
            note="the checksums are unknown, so no copy can be verified",
        ),
        Source(
            name="yakugakuqa",
            title="YakugakuQA: Japanese pharmacist exams 2012-2024, for training",
            licence="CC BY-SA 4.0",
            upstream="github.com/EQUES-Inc/pharma-LLM-eval",
            revision=PHARMA,
            files=_same_layout("yakugakuqa", lambda path: _github("EQUES-Inc/pharma-LLM-eval", PHARMA, path)),
        ),
        Source(
            name="jmle2026",
            title="JMLE2026-Bench: Japanese medical licence exam 2026 (120th)",
            licence="CC BY 4.0",
            upstream="github.com/naoto-iwase/JMLE2026-Bench",
            revision=f"76c4b29, whose file is that of {JMLE2026}",
            files=_same_layout("jmle2026", lambda path: _github("naoto-iwase/JMLE2026-Bench", JMLE2026, path)),
            note="the pictures are not fetched: copy images/ of upstream into DATA/jmle2026/ to show them to models",
        ),
        Source(
            name="igakuqa119",
            title="IgakuQA119: Japanese medical licence exam 2025 (119th)",
            licence="Apache-2.0; exam text by the Japanese ministry (government terms, CC BY compatible)",
            upstream="github.com/docto-rin/IgakuQA119",
            revision=f"2d94239, whose files are those of {IGAKUQA119} and, for section C, {IGAKUQA119_OLD}",
            files=_igakuqa119(),
            note="the pictures are not fetched: copy images/ of upstream into DATA/igakuqa119/ to show them to models",
        ),
        Source(
            name="medrect",
            title="MedRECT: errors in clinical texts, and the case items of the licence exams 2018-2025",
            licence="CC BY 4.0",
            upstream="github.com/pfnet-research/medrect",
            revision=MEDRECT,
            files=_same_layout("medrect", _medrect),
        ),
        Source(
            name="jmed-llm",
            title="JMED-LLM: CRADE, RRTNM, SMDIS and MRNER",
            licence="CC BY 4.0",
            upstream="github.com/sociocom/JMED-LLM",
            revision=JMED_LLM,
            files=_same_layout("jmed-llm", lambda path: _github("sociocom/JMED-LLM", JMED_LLM, f"datasets/{path}")),
        ),
        Source(
            name="sukeda2024",
            title="Prompt templates of the published evaluation",
            licence="CC BY-SA 4.0",
            upstream="github.com/stardust-coder/japanese-lm-med-harness",
            revision=HARNESS,
            files=tuple(
                File(
                    path,
                    digest,
                    _github("stardust-coder/japanese-lm-med-harness", HARNESS, "template.py"),
                    templates_as_json,
                )
                for path, digest in _checksums("sukeda2024")
            ),
            note="upstream has the templates in a Python file; their texts are extracted without running it",
        ),
    )
}


def find(name: str) -> Source:
    """Look up a source; an unknown name is an `InputError` that lists the nearest ones."""
    if name not in SOURCES:
        raise unknown("data source", name, SOURCES)
    return SOURCES[name]
