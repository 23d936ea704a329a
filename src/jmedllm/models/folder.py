"""Model directories: location, fingerprint and completeness."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any, Literal

from jmedllm.errors import InputError, NoSuchPathError
from jmedllm.files import hash_file, hash_text, read_json, to_json
from jmedllm.offline import allow
from jmedllm.progress import notice

Quantization = Literal["none", "nf4"]

ORIGIN = "jmedllm.json"
"""File that records the origin of models and adapters that jmedllm writes."""

_WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
"""Files from which transformers reads weights: a single file, or the index of several."""

_HUB_FILES = ["*.safetensors", "*.safetensors.index.json", "*.json", "*.model", "*.txt", "*.jinja"]

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
)
"""Files that define how text becomes tokens, including the chat template."""

PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json")
"""Files that define how a vision-language model sees pictures."""

PROCESSOR_TEMPLATE = "chat_template.json"
"""File in which older processors have the chat template; tokenizers do not read it."""

_IDENTITY = (
    *("config.json", "generation_config.json", "adapter_config.json"),
    *(*TOKENIZER_FILES, *PROCESSOR_FILES, PROCESSOR_TEMPLATE),
)
"""Files besides the weights that change the inputs or outputs of a model."""

_ADAPTER_FILES = ("adapter_config.json", "adapter_model*")
"""Files that peft writes. transformers applies them automatically to a model in the same directory."""


def complete_origin(folder: Path, origin: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the recorded origin of a model directory if it has these values and the model is unchanged since."""
    if not (folder / ORIGIN).is_file():
        return None
    recorded = read_json(folder / ORIGIN)
    wanted = {**origin, "fingerprint": fingerprint(folder)}
    return recorded if isinstance(recorded, dict) and recorded.items() >= wanted.items() else None


CANARIES = "canaries"
"""Key in the origin of models and adapters whose training data contain made-up people."""


def has_canaries(folder: Path) -> bool:
    """Return whether jmedllm trained a model or adapter on canaries, see `jmedllm.canary`."""
    origin = read_json(folder / ORIGIN) if (folder / ORIGIN).is_file() else None
    return isinstance(origin, dict) and CANARIES in origin


def require_no_canaries(folder: Path) -> None:
    """Check that a model that is delivered was not trained with canaries.

    Raises:
        InputError: it was.
    """
    if has_canaries(folder):
        raise InputError(
            f"model {folder}: was trained with canaries, which are made-up people, and is not for delivery; train it "
            "without them, or allow it with --with-canaries"
        )


def has_chat_template(folder: Path) -> bool:
    """Return whether the tokenizer files of a model directory contain a chat template."""
    if any((folder / name).exists() for name in ("chat_template.jinja", PROCESSOR_TEMPLATE)):
        return True
    config = folder / "tokenizer_config.json"
    values = read_json(config) if config.is_file() else {}
    return isinstance(values, dict) and bool(values.get("chat_template"))


def is_hub_id(name: str) -> bool:
    """Return whether a name can be the id of a model on Hugging Face, and is not only a path."""
    return not name.startswith((".", "/", "~")) and name.count("/") == 1 and not Path(name).is_file()


def require_no_gguf(path: Path) -> None:
    """Check that a model is not given as a GGUF file, or as a directory that contains nothing else.

    Raises:
        InputError: it is; the message has the command that converts it.
    """
    files = [path] if path.is_file() else sorted(path.glob("*.gguf"))
    if files and files[0].suffix == ".gguf" and not list(path.glob("*.safetensors")):
        raise InputError(
            f"model {path}: is in GGUF format; convert it once with: jmedllm convert {files[0]} --output DIRECTORY "
            "--dtype bfloat16"
        )


def resolve(name: str, *, revision: str | None = None, download: bool = False) -> Path:
    """Return the directory of a model given as a directory or as an id in the Hugging Face cache.

    Nothing is downloaded unless `download` is true; then only safetensors and tokenizer files are.

    Raises:
        InputError: there is no such directory and no such cached model, or it is in GGUF format.
    """
    require_no_gguf(Path(name))
    if name and Path(name).is_dir():
        return Path(name)
    if not is_hub_id(name):
        home = "; ~ is not expanded here, write the whole path" if name.startswith("~") else ""
        raise NoSuchPathError(Path(name), f"model {name!r}: no such directory{home}")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        with _online() if download else nullcontext():
            return Path(
                snapshot_download(name, revision=revision, local_files_only=not download, allow_patterns=_HUB_FILES)
            )
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError) as error:
        if download:
            raise InputError(f"model {name!r}: download failed: {str(error).splitlines()[0]}") from error
        raise InputError(
            f"model {name!r}: no such directory, and not in the local Hugging Face cache; "
            "give a directory or allow one download with --download"
        ) from None


@contextmanager
def _online() -> Iterator[None]:
    """Let huggingface_hub reach the hub, and the hosts of its files, in this block."""
    from huggingface_hub import constants

    allow(constants.ENDPOINT, "the name of a model")
    allow(".hf.co", "requests for its files")
    # Xet's client is written in Rust, where nobody sees with which hosts it connects.
    before = constants.HF_HUB_OFFLINE, constants.HF_HUB_DISABLE_XET
    constants.HF_HUB_OFFLINE, constants.HF_HUB_DISABLE_XET = False, True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE, constants.HF_HUB_DISABLE_XET = before


def require_model(folder: Path) -> None:
    """Check that a directory can be loaded as a model with its tokenizer.

    Raises:
        InputError: the config, safetensors weights or the tokenizer is missing.
    """
    if not (folder / "config.json").is_file():
        if adapter_files(folder):
            raise InputError(
                f"model {folder}: contains only an adapter; give its base as the model and the adapter with --adapter"
            )
        raise InputError(f"model {folder}: no config.json; is this a Hugging Face model directory?")
    found = sorted({*folder.glob("*.safetensors")} - {*adapter_files(folder)})
    if not found:
        raise InputError(f"model {folder}: no *.safetensors weights; convert the model to safetensors first")
    if not any((folder / name).is_file() for name in (_WHOLE, INDEX)):
        way = f"rename {found[0].name} to {_WHOLE}" if len(found) == 1 else f"copy {INDEX} too"
        raise InputError(f"model {folder}: no {_WHOLE} and no {INDEX}; {way}")
    weight_files(folder)
    _require_usual_files(folder)
    require_tokenizer(folder)


def _require_usual_files(folder: Path) -> None:
    """Check that transformers reads the weights from the standard files.

    Raises:
        InputError: the configuration, or a checkpoint of several processes, names other files.
    """
    if list(folder.glob("shard-[0-9]*-model-[0-9]*-of-[0-9]*.safetensors")):
        raise InputError(f"model {folder}: is a distributed checkpoint (shard-*); save it as a plain model")
    config = read_json(folder / "config.json")
    if isinstance(config, dict) and (named := config.get("transformers_weights")):
        raise InputError(
            f"model {folder}: config.json takes the weights from {named} (transformers_weights); rename that file "
            "to model.safetensors and remove the key"
        )


def adapter_files(folder: Path) -> list[Path]:
    """Return the files of a PEFT adapter in a directory."""
    return sorted(file for pattern in _ADAPTER_FILES for file in folder.glob(pattern))


def require_unambiguous(folder: Path, *, adapter: Path | None = None, ignore_adapter: bool = False) -> None:
    """Check that a directory contains no adapter besides the model, or that the user decided what to do with it.

    Args:
        folder: the model directory; a directory with an adapter alone passes.
        adapter: the adapter to apply, in this directory or another one.
        ignore_adapter: whether to ignore adapter files in the directory; a notice on standard error names them.

    Raises:
        InputError: the directory contains adapter files and the user chose neither option, or both.
    """
    found = adapter_files(folder) if (folder / "config.json").is_file() else []
    if not found:
        return
    names = ", ".join(file.name for file in found)
    if adapter is not None:
        if ignore_adapter and adapter.resolve() == folder.resolve():
            raise InputError(
                f"--adapter applies the adapter in {folder} but --ignore-adapter ignores it; leave one out"
            )
        if adapter.resolve() != folder.resolve():
            notice(f"model {folder}: its own adapter ({names}) is not applied; {adapter} is")
        return
    if not ignore_adapter:
        raise InputError(
            f"model {folder}: contains a whole model and the files of an adapter ({names}); apply the adapter with "
            f"--adapter {folder}, leave it out with --ignore-adapter (base.ignore_adapter in a recipe), or move "
            "its files elsewhere"
        )
    notice(f"model {folder}: its own adapter ({names}) is ignored")


def require_tokenizer(folder: Path) -> None:
    """Check that a directory contains a tokenizer.

    Raises:
        InputError: its files are missing.
    """
    if not has_tokenizer(folder):
        raise InputError(f"model {folder}: no tokenizer (tokenizer.json); copy the base model's tokenizer files")


def has_tokenizer(folder: Path) -> bool:
    """Return whether a directory contains a tokenizer and not only its settings."""
    return any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json"))


def weight_files(folder: Path) -> list[Path]:
    """Return the files from which transformers reads a model's weights: a single file, or all that the index lists.

    Raises:
        InputError: one of the listed files is missing, or the index is invalid.
    """
    index = folder / INDEX
    if (whole := folder / _WHOLE).is_file():
        return [whole]
    if not index.is_file():
        return sorted({*folder.glob("*.safetensors")} - {*adapter_files(folder)})
    listed = read_json(index)
    if not isinstance(listed, dict) or not isinstance(listed.get("weight_map"), dict):
        raise InputError(f"{index}: no weight_map; copy the model again")
    for name in listed["weight_map"].values():
        if not isinstance(name, str) or Path(name).name != name:
            raise InputError(f"{index}: {name!r} is not the name of a file beside it; copy the model again")
    files = [folder / name for name in sorted(set(listed["weight_map"].values()))]
    for file in files:
        if not file.is_file():
            raise InputError(f"model {folder}: {file.name} is missing, though {index.name} lists it; copy it too")
    return files


def model_files(folder: Path) -> list[Path]:
    """Return all files of a model besides its weights, including the index of the weights."""
    files = {file for pattern in _HUB_FILES[1:] for file in folder.glob(pattern) if file.name != ORIGIN}
    return sorted(files - {*adapter_files(folder)})


def fingerprint(folder: Path) -> str:
    """Return 16 hex digits of a hash of config, tokenizer, chat template and every weight file.

    This reads all weights once (about a second per gigabyte). Models with the same fingerprint give the same answers.
    An adapter in the same directory is not part of the fingerprint.
    """
    files = {*(folder / name for name in _IDENTITY), *folder.glob("*.safetensors")}
    return _fingerprint(files - {*adapter_files(folder)} if (folder / "config.json").is_file() else files)


def adapter_fingerprint(folder: Path) -> str:
    """Return the fingerprint of an adapter and its tokenizer; in a model directory, of the adapter's own files
    only."""
    if not (folder / "config.json").is_file():
        return fingerprint(folder)
    return _fingerprint(adapter_files(folder))


def _fingerprint(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(file for file in files if file.is_file()):
        status = path.stat()
        digest.update(f"{path.name} {_hash_once(path, status.st_size, status.st_mtime_ns)}\n".encode())
    return digest.hexdigest()[:16]


@cache
def _hash_once(path: Path, size: int, modified: int) -> str:
    """Hash a file once per process, unless its size or modification time changes."""
    if path.name == "adapter_config.json":
        # The path of the base on this machine is not part of the adapter.
        return hash_text(to_json({k: v for k, v in read_json(path).items() if k != "base_model_name_or_path"}))
    return hash_file(path)
