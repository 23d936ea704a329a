"""An exported GGUF file is the model: llama.cpp computes with it what transformers computes with the directory."""

import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from shutil import copytree
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from gguf_cases import CASES, values_of

from jmedllm.deploy.divergence import TEXTS
from jmedllm.deploy.gguf.architectures import ARCHITECTURES, architecture_of
from jmedllm.deploy.gguf.proof import Coverage
from jmedllm.deploy.gguf.source import Source, open_source
from jmedllm.deploy.gguf.types import FILE_TYPES, tensor_format
from jmedllm.deploy.gguf.vocabulary import vocabulary
from jmedllm.errors import InputError
from jmedllm.precision import choose_precision
from small_tokenizers import sentencepiece
from tiny_classes import build_class

pytestmark = pytest.mark.slow

SMALL = Coverage(exact_texts=1, texts=1, chats=4)

FLOAT32 = choose_precision("float32", "cpu")


def source_of(folder: Path) -> Source:
    with open_source(str(folder), None, FLOAT32) as source:
        return source


def write(source: Source, file: Path, kind: str = "f32", pre: str = "qwen2") -> Path:
    from jmedllm.deploy.gguf.write import write_gguf

    tokens = vocabulary(source.tokenizer, source.config.vocab_size, source.ends)
    write_gguf(source.folder, source.config, tokens, pre, FILE_TYPES[kind], file, {})
    return file


def exact_difference(file: Path, source: Source) -> Any:
    """Predictions of a file in float32 against those of the model, on two texts."""
    from jmedllm.deploy.gguf.parity import parity
    from jmedllm.deploy.gguf.rounding import rounding_as_ggml
    from jmedllm.deploy.llama_cpp import serving
    from jmedllm.models.loading import load_network
    from jmedllm.models.tokenizer.encoding import encode

    network = load_network(source.folder, torch.float32, torch.device("cpu")).eval()
    with serving(file, exact=True) as server, rounding_as_ggml(network):
        return parity(server, network, {"both": encode(source.tokenizer, TEXTS[:2])}, forced=66)["both"]


EVERY_RUN = ("llama 3 rope", "gemma 3", "qwen3.5 moe with a vision tower")


def documented() -> dict[str, tuple[str, float]]:
    """llama.cpp's name and the figure of each class in the table of docs/deploy.md."""
    page = (Path(__file__).parents[2] / "docs/deploy.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`\w+`[^|]*)\| `([\w-]+)` \| ([\de-]+) \|", page, re.MULTILINE)
    return {name: (known, float(figure)) for names, known, figure in rows for name in re.findall(r"`(\w+)`", names)}


@pytest.mark.parametrize(
    "case", [name if name in EVERY_RUN else pytest.param(name, marks=pytest.mark.exhaustive) for name in CASES]
)
def test_llama_cpp_predicts_in_float32_what_transformers_class_does(
    case: str, tiny_model: Path, tmp_path: Path
) -> None:
    name, values = values_of(case)
    source = source_of(build_class(name, tiny_model, tmp_path / "model", values))
    found = exact_difference(write(source, tmp_path / "exact.gguf"), source)
    assert found.kl <= 10 * documented()[name][1] and found.top1 == 1.0 and found.positions >= 128


@pytest.mark.exhaustive
def test_experts_that_files_store_transposed_are_the_same(tiny_model: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    name, values = values_of("qwen3 moe with a vision tower")
    values["text_config"]["moe_intermediate_size"] = 24
    source = source_of(build_class(name, tiny_model, tmp_path / "model", values))
    expected = write(source, tmp_path / "expected.gguf").read_bytes()
    file = source.folder / "model.safetensors"
    stored = load_file(file)
    turned = {key: each.mT.contiguous() if ".experts." in key else each for key, each in stored.items()}
    assert sum(turned[key].shape != each.shape for key, each in stored.items()) == 4
    save_file(turned, file, {"format": "pt"})
    assert write(source, tmp_path / "turned.gguf").read_bytes() == expected


def test_the_page_names_each_class_and_each_class_has_a_case() -> None:
    assert {name: known for name, (known, _) in documented().items()} == {
        name: each.name for name, each in ARCHITECTURES.items()
    }
    assert {name for name, _ in CASES.values()} == set(ARCHITECTURES)


@pytest.fixture(scope="module")
def exported(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Source, Path, Any]]:
    from jmedllm.deploy.gguf.export import export_gguf

    source, file = source_of(tiny_model), tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    yield source, file, export_gguf(source, file, "f16", coverage=SMALL)


def test_two_exports_are_the_same_bytes_and_carry_the_proof(
    exported: tuple[Source, Path, Any], tmp_path: Path
) -> None:
    from jmedllm.deploy.gguf.export import export_gguf
    from jmedllm.models.conversion.gguf import read_gguf

    source, file, first = exported
    second = export_gguf(source, tmp_path / "again.gguf", "f16", coverage=SMALL)
    assert second == first and (tmp_path / "again.gguf").read_bytes() == file.read_bytes()
    metadata = read_gguf(file).metadata
    assert f'"positions": {first.proof.exact.positions}' in metadata["jmedllm.proof"]
    assert f'"trace": {{"model": "{metadata["jmedllm.fingerprint"]}"' in metadata["jmedllm.proof"]
    assert metadata["jmedllm.normalizer"] == ("NFC" if first.pre.normalized else "")
    assert metadata["general.name"] == source.folder.name
    assert not list(tmp_path.glob(".*"))


def changed(source: Source, **values: Any) -> Source:
    config = deepcopy(source.config)
    for key, value in values.items():
        setattr(config, key, value)
    return replace(source, config=config)


def with_template(source: Source) -> Source:
    tokenizer = deepcopy(source.tokenizer)
    tokenizer.chat_template = "{% for message in messages %}{{ message.content }}{% endfor %}"
    return replace(source, tokenizer=tokenizer)


FAULTS: dict[str, tuple[Callable[[Source], Source], str, str]] = {
    "rope": (
        lambda source: changed(source, rope_parameters={"rope_type": "default", "rope_theta": 500_000.0}),
        "qwen2",
        "rope.freq_base is 500000.0",
    ),
    "epsilon": (lambda source: changed(source, rms_norm_eps=1e-5), "qwen2", "layer_norm_rms_epsilon is"),
    "pre-tokenizer": (lambda source: source, "gpt-2", "tokenizer.ggml.pre is 'gpt-2'"),
    "template": (with_template, "qwen2", "tokenizer.chat_template is"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_refused_by_name(fault: str, exported: tuple[Source, Path, Any], tmp_path: Path) -> None:
    from jmedllm.deploy.gguf.proof import prove

    source, _, first = exported
    plant, pre, message = FAULTS[fault]
    file = write(plant(source), tmp_path / "faulty.gguf", "f16", pre)
    with pytest.raises(InputError, match="export the model again") as refused:
        prove(file, source, first.pre, coverage=SMALL)
    assert message in str(refused.value)


def one_weight(row: Any) -> None:
    row[5] ^= 1


def zeros(row: Any) -> None:
    row[:] = 0


@pytest.mark.parametrize(
    ("kind", "fault", "shown"), [("f16", one_weight, "1 of"), ("q4_k_m", zeros, "in 1 of .* rows|its error is")]
)
def test_a_tensor_with_other_values_is_refused_by_name(
    kind: str, fault: Callable[[Any], None], shown: str, tiny_model: Path, tmp_path: Path
) -> None:
    import numpy as np
    from gguf import GGUFReader

    from jmedllm.deploy.gguf.same_tensors import require_same_tensors

    source = source_of(tiny_model)
    file = write(source, tmp_path / "tiny.gguf", kind)
    tensors = {each.name: each for each in GGUFReader(str(file)).tensors}
    assert require_same_tensors(file, source, FILE_TYPES[kind]) == len(tensors)
    with pytest.raises(InputError, match=r"is \w+ \[\d+, \d+\], but Q8_0"):
        require_same_tensors(file, source, FILE_TYPES["q8_0"])
    changed = tensors["blk.1.ffn_up.weight"]
    content = np.memmap(file, np.uint8, "r+", changed.data_offset, changed.n_bytes)
    fault(content.reshape(changed.data.shape[0], -1)[3])
    content.flush()
    with pytest.raises(InputError, match=rf"blk.1.ffn_up.weight is not that of .*: {shown}"):
        require_same_tensors(file, source, FILE_TYPES[kind])


def test_a_file_without_the_adapter_is_refused(
    exported: tuple[Source, Path, Any], tiny_model: Path, tiny_adapter: Path
) -> None:
    from jmedllm.deploy.gguf.proof import prove

    _, file, first = exported
    refused = pytest.raises(InputError, match=r"ja: differs from the model by .* nats per token")
    with open_source(str(tiny_model), tiny_adapter, FLOAT32) as merged, refused:
        prove(file, merged, first.pre, coverage=SMALL)


def test_a_file_and_a_server_that_lost_an_end_token_are_refused(
    exported: tuple[Source, Path, Any], tiny_model: Path, tmp_path: Path
) -> None:
    from jmedllm.deploy.gguf.proof import prove, prove_server
    from jmedllm.deploy.llama_cpp import serving

    _, file, first = exported
    folder = Path(copytree(tiny_model, tmp_path / "two-ends"))
    (folder / "generation_config.json").write_text('{"eos_token_id": [0, 66]}', encoding="utf-8")
    source = source_of(folder)
    with pytest.raises(InputError, match="eot_token_id is None, but 66"):
        prove(file, source, first.pre, coverage=SMALL)
    with serving(file) as server, pytest.raises(InputError, match="does not stop at token 66"):
        prove_server(server, source, coverage=SMALL)


def test_the_reason_for_a_failed_load_is_llama_cpps(exported: tuple[Source, Path, Any], tmp_path: Path) -> None:
    from jmedllm.deploy.llama_cpp import serving

    file, content = tmp_path / "cut.gguf", exported[1].read_bytes()
    for written, reason in {
        content[:-1000]: "data is not within the file bounds",
        content.replace(b"qwen2.block_count", b"qwen2.blocc_count"): "key not found in model: qwen2.block_count",
        b"GGUF": r"cut\.gguf: llama.cpp does not load it: .+",
    }.items():
        file.write_bytes(written)
        with pytest.raises(InputError, match=reason), serving(file):
            pass


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        (float("nan"), "bf16", "blk.1.ffn_up.weight of the model has NaN or infinity"),
        (1e6, "f16", "blk.1.ffn_up.weight has a value of 1e[+]06, too large for float16; give --type bf16"),
        (1e6, "bf16", ""),
    ],
)
def test_values_that_a_file_cannot_store_are_refused(
    value: float, kind: str, message: str, tiny_model: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    folder = Path(copytree(tiny_model, tmp_path / "model"))
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"][3, 3] = value
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    if not message:
        assert write(source_of(folder), tmp_path / "model.gguf", kind).is_file()
        return
    with pytest.raises(InputError, match=message):
        write(source_of(folder), tmp_path / "model.gguf", kind)
    assert not (tmp_path / "model.gguf").exists()


def test_an_unfinished_or_changed_run_is_named(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from jmedllm.manifest import begin_manifest, write_manifest
    from jmedllm.models.folder import fingerprint

    model = Path(copytree(tiny_model, tmp_path / "run/mfpt/model"))
    stages = {"mfpt": {"outputs": {"model": fingerprint(model)}}}
    manifest = {**begin_manifest(tmp_path / "run"), "enabled": ["mfpt", "mpeft", "merge"], "stages": stages}
    write_manifest(tmp_path / "run", manifest)
    assert source_of(tmp_path / "run").folder == model
    assert "not finished (mpeft, merge); its last model so far is" in capsys.readouterr().err
    stages["mfpt"]["outputs"]["model"] = "0" * 16
    write_manifest(tmp_path / "run", manifest | {"enabled": ["mfpt"]})
    assert source_of(tmp_path / "run").folder == model
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("gguf", "--no-proof", "--exam", "demo", "--output", "x.gguf"), "--exam is part of the proof"),
        (("gguf", "--limit", "3", "--output", "x.gguf"), "--limit is for the items of an exam"),
        (("prove", "x.gguf", "--model", "tiny"), "--model names a model on a server"),
    ],
)
def test_options_that_would_do_nothing_are_refused(
    options: tuple[str, ...], message: str, tiny_model: Path, cli: Callable[..., tuple[int, str, str]]
) -> None:
    source = ("--against", tiny_model) if options[0] == "prove" else (tiny_model,)
    code, _, errors = cli("deploy", *options, *source)
    assert code == 2 and message in errors


@pytest.mark.parametrize("error", [0.0, 5e-5])  # of the sum over the vocabulary, in float32
@pytest.mark.parametrize("scale", [1.0, 8.0])  # many likely tokens, and few
@pytest.mark.parametrize("listed", [1, 20, 500])
def test_the_divergence_of_the_listed_tokens_is_a_lower_bound(listed: int, scale: float, error: float) -> None:
    from jmedllm.deploy.gguf.parity import Listed, kl_divergence

    generator = torch.Generator().manual_seed(listed)
    logits = scale * torch.randn(2000, generator=generator, dtype=torch.float64)
    ours = logits.log_softmax(-1)
    theirs = (logits + 0.01 * torch.randn(2000, generator=generator, dtype=torch.float64)).log_softmax(-1)
    exact = float((ours.exp() * (ours - theirs)).sum())
    order = theirs.argsort(descending=True)
    assert kl_divergence(ours, Listed(order, theirs[order] + error)) == pytest.approx(exact, abs=1e-12)
    bound = kl_divergence(ours, Listed(order[:listed], theirs[order[:listed]] + error))
    assert -1e-12 <= bound <= exact + 2e-7
    if listed == 500:
        assert bound > exact / 2


@pytest.mark.parametrize("fault", ["rope", "epsilon"])
def test_predictions_alone_show_a_planted_fault(
    fault: str, exported: tuple[Source, Path, Any], tmp_path: Path
) -> None:
    source = exported[0]
    found = exact_difference(write(FAULTS[fault][0](source), tmp_path / "faulty.gguf"), source)
    assert found.kl > 1e-9


def test_the_file_of_another_model_of_the_same_shape_is_refused(
    exported: tuple[Source, Path, Any], tmp_path: Path
) -> None:
    from conftest import build_tiny
    from jmedllm.deploy.gguf.proof import prove

    source, _, first = exported
    other = source_of(build_tiny(tmp_path / "other", seed=2))
    with pytest.raises(InputError, match=r"differs from the model by .* nats per token \(limit 0.0001\)"):
        prove(write(other, tmp_path / "other.gguf", "f16"), source, first.pre, coverage=SMALL)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"architectures": ["FalconForCausalLM"]}, "FalconForCausalLM is not supported"),
        (
            {"architectures": ["Gemma2ForCausalLM"], "query_pre_attn_scalar": 224, "head_dim": 256}
            | {"num_hidden_layers": 4},
            "query_pre_attn_scalar=256",
        ),
        (
            {"architectures": ["Gemma3ForCausalLM"], "num_hidden_layers": 2}
            | {"layer_types": ["full_attention", "sliding_attention"]},
            "layer_types=",
        ),
        ({"architectures": ["Gemma4ForCausalLM"], "enable_moe_block": True}, "enable_moe_block=False"),
        ({"architectures": ["Qwen3MoeForCausalLM"], "norm_topk_prob": False}, "norm_topk_prob=True"),
        ({"architectures": ["LlamaForCausalLM"], "hidden_act": "gelu"}, "hidden_act=silu, but config.json has 'gelu'"),
    ],
)
def test_what_llama_cpp_would_compute_differently_is_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match="vLLM") as refused:
        architecture_of(SimpleNamespace(**config))
    assert message in str(refused.value)


def test_unigram_tokenizers_are_refused_by_name(shared: Path) -> None:
    from jmedllm.models.tokenizer.load import read_tokenizer

    with pytest.raises(InputError, match=r"Unigram \(as of llm-jp\).*vLLM"):
        vocabulary(read_tokenizer(shared / "tokenizers/llm-jp-v2.2"), 100_000, [1])


def test_each_of_six_ends_ends_an_answer_and_a_seventh_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    from jmedllm.deploy.gguf.parity import require_ends
    from jmedllm.deploy.gguf.write import write_gguf
    from jmedllm.deploy.llama_cpp import serving

    source, file, ends = source_of(tiny_model), tmp_path / "ends.gguf", list(range(100, 106))
    tokens = vocabulary(source.tokenizer, source.config.vocab_size, ends)
    write_gguf(source.folder, source.config, tokens, "qwen2", FILE_TYPES["f16"], file, {})
    with serving(file) as server:
        require_ends(server, [5, 6, 7], ends, "this server")
        with pytest.raises(InputError, match="does not stop at token 106"):
            require_ends(server, [5, 6, 7], [106], "this server")
    with pytest.raises(InputError, match="7 tokens that end an answer"):
        vocabulary(source.tokenizer, source.config.vocab_size, [*ends, 106])


def test_the_importance_matrix_of_a_run_reads_only_its_packed_rows(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np

    from jmedllm.deploy.gguf import export
    from jmedllm.training.packing import save_blocks

    # tests/test_held_out.py shows that no held-out document is in a packed row.
    rows = [np.arange(start, start + 8, dtype=np.int32) for start in (10, 50, 90)]
    save_blocks(((row, row, row > 0) for row in rows), 8, tmp_path / "blocks")
    read: list[list[int]] = []
    monkeypatch.setattr(export, "importance_matrix", lambda _, sequences: read.extend(sequences))
    export._importance(replace(source_of(tiny_model), blocks=tmp_path / "blocks"), FILE_TYPES["q4_k_m"])
    assert read == [row.tolist() for row in rows]


@pytest.mark.parametrize("case", ["qwen3 moe", "gpt-oss", "mixtral"])
def test_experts_get_an_importance_matrix_each(case: str, tiny_model: Path, tmp_path: Path) -> None:
    from jmedllm.deploy.gguf.importance import columns, importance_matrix
    from jmedllm.models.loading import load_network

    network = load_network(
        build_class(values_of(case)[0], tiny_model, tmp_path / "model", values_of(case)[1]),
        torch.float32,
        torch.device("cpu"),
    ).eval()
    seen: list[torch.Tensor] = []
    experts = network.model.layers[1].mlp.experts
    experts.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].reshape(-1, 32)))
    found = importance_matrix(network, [list(range(10, 100))])
    gates, downs = (columns(found, f"blk.1.ffn_{part}_exps.weight", "") for part in ("gate", "down"))
    assert gates is not None and gates.shape == (4, 32) and downs is not None and downs.shape[0] == 4
    # Each token goes to two of four experts, so the squares of all experts are twice those of the tokens.
    width = values_of(case)[1].get("moe_intermediate_size") if case == "qwen3 moe" else 64
    assert downs.shape[1] == width and (downs > 0).all()
    whole = torch.cat(seen).square().mean(0)
    assert (gates.max(0) * 1.0001 >= whole.numpy()).all() and (gates.min(0) <= whole.numpy() * 1.0001).all()


@pytest.mark.parametrize(
    ("spaces", "space"),
    [
        ("always", "trim"),  # Llama 2 and Mistral with `legacy`
        pytest.param("first", "prepend", marks=pytest.mark.exhaustive),  # without
        pytest.param("doubled", "", marks=pytest.mark.exhaustive),  # as SentencePiece
        pytest.param("none", "", marks=pytest.mark.exhaustive),  # Gemma
    ],
)
def test_sentencepiece_bpe_gives_the_same_token_ids(spaces: str, space: str) -> None:
    from tokenizers.pre_tokenizers import Metaspace

    from jmedllm.deploy.gguf.pretokenizer import find_pre_tokenizer

    tokenizer = sentencepiece(dummy_prefix=spaces == "doubled", merges=(("a", "b"), ("▁a", "b"), ("▁", "▁")))
    if spaces in ("always", "first"):
        tokenizer.backend_tokenizer.normalizer = None
        tokenizer.backend_tokenizer.pre_tokenizer = Metaspace(prepend_scheme=spaces, split=False)
    tokens = vocabulary(tokenizer, len(tokenizer), [2])
    texts = ["ab ab a b Answer: (a) (b)", "e\u0301 ab\nab<turn>ab 薬", " ab", "<turn> ab", "  a  b", "<s>ab</s> a"]
    found = find_pre_tokenizer(tokenizer, tokens, texts)
    assert (found.name, found.scripts) == ("default", ())
    assert (tokens.normalization.normalizer, tokens.normalization.space) == ("", space)
    assert tokens.adds_space == (spaces in ("always", "doubled"))


@pytest.mark.parametrize(
    ("name", "columns", "expected"),
    [
        ("token_embd.weight", 2048, "Q6_K"),  # the output uses it
        ("token_embd.weight", 576, "Q8_0"),
        ("blk.0.attn_v.weight", 2048, "Q6_K"),
        ("blk.4.attn_v.weight", 2048, "Q4_K"),
        ("blk.5.ffn_down.weight", 2048, "Q6_K"),
        ("blk.4.attn_q.weight", 576, "Q5_0"),
        ("blk.4.attn_q.weight", 100, "F16"),
    ],
)
def test_formats_are_those_of_llama_cpps_own_quantization(name: str, columns: int, expected: str) -> None:
    assert tensor_format(name, (64, columns), FILE_TYPES["q4_k_m"], layers=30, tied=True) == expected


def test_a_server_is_proved_and_another_model_is_refused(exported: tuple[Source, Path, Any], tmp_path: Path) -> None:
    from conftest import build_tiny
    from jmedllm.deploy.gguf.proof import prove_server
    from jmedllm.deploy.llama_cpp import serving

    source, file, first = exported
    with serving(file) as server:
        assert prove_server(server, source, coverage=SMALL).languages == first.proof.languages
        with pytest.raises(InputError, match=r"127\.0\.0\.1:\d+, ja: differs from the model"):
            prove_server(server, source_of(build_tiny(tmp_path / "other", seed=2)), ceiling=1e-3, coverage=SMALL)


def test_ggml_quantizes_as_its_python_package_and_weighs_columns() -> None:
    import numpy as np
    from gguf import GGMLQuantizationType
    from gguf.quants import dequantize, quantize

    from jmedllm.deploy.gguf.quantize import quantizing

    values = np.random.default_rng(0).standard_normal((8, 512), dtype=np.float32)
    importance = np.where(np.arange(512) < 16, 1000, 1).astype(np.float32)
    with quantizing() as ggml:
        eight = ggml(values, "Q8_0", None)
        plain, weighted = (
            dequantize(ggml(values, "Q4_K", each).reshape(8, -1), GGMLQuantizationType.Q4_K)
            for each in (None, importance)
        )
    assert (eight == quantize(values, GGMLQuantizationType.Q8_0).reshape(8, -1)).all()

    def error(found: Any) -> float:
        return float((importance * (found - values) ** 2).sum())

    assert error(weighted) < error(plain)


def test_the_importance_matrix_is_the_mean_square_of_the_inputs(tiny_model: Path) -> None:
    from jmedllm.deploy.gguf.importance import importance_matrix
    from jmedllm.models.loading import load_network

    network = load_network(tiny_model, torch.float32, torch.device("cpu")).eval()
    ids = [list(range(10, 40)), list(range(60, 70))]
    with torch.no_grad():
        hidden = torch.cat([network.model(input_ids=torch.tensor([each])).last_hidden_state[0] for each in ids])
    found = importance_matrix(network, ids)
    assert torch.allclose(torch.from_numpy(found["model.embed_tokens.weight"]), hidden.square().mean(0), rtol=1e-4)
    assert set(found) >= {f"model.layers.1.mlp.{name}_proj.weight" for name in ("gate", "up", "down")}


def test_the_command_refuses_in_one_line_and_leaves_nothing(
    tiny_model: Path,
    tmp_path: Path,
    cli: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("jmedllm.deploy.gguf.importance.TOKENS", 500)
    output = tmp_path / "tiny.gguf"
    killed = tmp_path / ".tiny.4194304.tmp"  # of a process that was killed
    killed.mkdir()
    (killed / "exact.gguf").write_bytes(b"GGUF")
    code, _, errors = cli(
        "deploy", "gguf", tiny_model, "--output", output, "--type", "q4_k_m", "--accept-divergence", 0
    )
    assert code == 2 and "limit 0" in errors and "Traceback" not in errors
    assert not list(tmp_path.iterdir())
    code, _, errors = cli("deploy", "prove", tmp_path / "none.gguf", "--against", tiny_model)
    assert code == 2 and "none.gguf: no such file" in errors


def test_the_message_on_other_token_ids_shows_the_place_in_a_long_text() -> None:
    from jmedllm.deploy.gguf.pretokenizer import Difference
    from small_tokenizers import byte_level

    tokenizer = byte_level()
    text = "The same words. " * 20 + "12 mg"
    ids = tuple(tokenizer(text)["input_ids"])
    message = str(Difference(text, ids, (*ids[:-4], 0, *ids[-3:])).located(tokenizer))
    assert message.startswith("'12 mg'") or "12 mg'" in message
    assert f"from token {len(ids) - 4} on" in message


@pytest.mark.exhaustive
def test_a_tokenizer_without_a_rule_in_llama_cpp_is_refused_with_the_first_difference() -> None:
    from jmedllm.deploy.gguf.pretokenizer import find_pre_tokenizer
    from small_tokenizers import byte_level

    # Tokens across words, as in "is advised", which only superbpe allows, and across its groups of three digits.
    tokenizer = byte_level(merges=(("s", "Ġa"), ("1", "2")))
    with pytest.raises(InputError, match=r"no rule that splits text .* the nearest is .* in the model, .* in llama"):
        find_pre_tokenizer(tokenizer, vocabulary(tokenizer, len(tokenizer), [2]), [])


@pytest.mark.exhaustive
def test_the_rule_of_a_real_tokenizer_is_found(shared: Path) -> None:
    from jmedllm.deploy.gguf.pretokenizer import find_pre_tokenizer
    from jmedllm.models.tokenizer.load import read_tokenizer

    tokenizer = read_tokenizer(shared / "tokenizers/qwen2")
    found = find_pre_tokenizer(tokenizer, vocabulary(tokenizer, len(tokenizer), [0]), [])
    assert (found.name, found.normalized) == ("qwen2", 2)
