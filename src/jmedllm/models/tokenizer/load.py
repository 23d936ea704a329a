"""Load tokenizers of model directories and adapters."""

from pathlib import Path

from jmedllm.errors import InputError
from jmedllm.files import read_json
from jmedllm.models.adapters import brings_tokenizer, differences, embedding_rows
from jmedllm.models.folder import PROCESSOR_TEMPLATE, has_tokenizer, require_model, require_tokenizer
from jmedllm.models.libraries import be_quiet
from jmedllm.models.loading import loading, read_config
from jmedllm.models.tokenizer.encoding import Tokenizer
from jmedllm.models.tokenizer.growth import require_bounded_growth
from jmedllm.models.tokenizer.roundtrip import encodes_otherwise, require_round_trip
from jmedllm.progress import notice


def read_tokenizer(folder: Path) -> Tokenizer:
    """Load a tokenizer from a directory that may contain no model.

    Some tokenizer classes of transformers 5 apply their own rules. If such a class encodes text differently from
    tokenizer.json, the file is used, with a notice on standard error.

    Raises:
        InputError: the files are missing or broken, or the tokenizer loses part of a text.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    require_tokenizer(folder)
    require_bounded_growth(folder / "tokenizer.json")
    be_quiet()
    with loading(f"tokenizer of {folder}"):
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        if (folder / "tokenizer.json").is_file() and encodes_otherwise(tokenizer, folder / "tokenizer.json"):
            named = type(tokenizer).__name__
            notice(f"tokenizer of {folder}: class {named} encodes text differently from tokenizer.json, which is used")
            tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        require_round_trip(tokenizer, f"tokenizer of {folder}")
        if not tokenizer.chat_template and (folder / PROCESSOR_TEMPLATE).is_file():
            tokenizer.chat_template = read_json(folder / PROCESSOR_TEMPLATE)["chat_template"]
    return tokenizer


def load_tokenizer(folder: Path, adapter: Path | None = None) -> Tokenizer:
    """Load the tokenizer of a model directory; it always gets a padding token.

    Args:
        folder: the model directory.
        adapter: an adapter whose own tokenizer or chat template is used if it differs from the model's, with a notice
            on standard error.

    Raises:
        InputError: the files are missing or broken, or the tokenizer has no EOS token or more tokens than the
            embedding has rows.
    """
    require_model(folder)
    tokenizer = read_tokenizer(folder)
    # A tokenizer may have fewer tokens than the embedding has rows, because embeddings are often padded.
    with loading(f"model {folder}"):
        rows = read_config(folder).get_text_config().vocab_size
    if adapter is not None and brings_tokenizer(adapter, folder):
        own = _adapter_tokenizer(adapter, folder)
        if differing := differences(own, tokenizer):
            notice(f"adapter {adapter}: its own tokenizer is used, which differs by {', '.join(differing)}")
            tokenizer = own
            rows = max([rows, *embedding_rows(adapter).values()])
            _require_rows_of_adapter(adapter, own, rows)
    tokens = max(tokenizer.get_vocab().values()) + 1
    if tokens > rows:
        raise InputError(
            f"model {tokenizer.name_or_path}: its tokenizer has {tokens:,} tokens, but its embedding only "
            f"{rows:,} rows (vocab_size in config.json); copy the tokenizer that belongs to this model"
        )
    if tokenizer.eos_token_id is None:
        raise InputError(f"model {folder}: its tokenizer has no EOS token; set eos_token in tokenizer_config.json")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _require_rows_of_adapter(adapter: Path, tokenizer: Tokenizer, rows: int) -> None:
    tokens = max(tokenizer.get_vocab().values()) + 1
    if tokens > rows:
        raise InputError(
            f"adapter {adapter}: its tokenizer has {tokens:,} tokens, but the embedding has only {rows:,} "
            "rows, and the adapter contains no embedding; save it with its embedding, or remove its tokenizer files"
        )


def adapter_tokenizer_differences(adapter: Path, folder: Path) -> list[str]:
    """List differences between the tokenizer that `load_tokenizer` returns with an adapter and the model's own.

    Raises:
        InputError: one of them is broken.
    """
    if not brings_tokenizer(adapter, folder):
        return []
    return differences(_adapter_tokenizer(adapter, folder), read_tokenizer(folder))


def _adapter_tokenizer(adapter: Path, folder: Path) -> Tokenizer:
    """Return the adapter's own tokenizer, or the model's tokenizer with the adapter's chat template."""
    if has_tokenizer(adapter):
        return read_tokenizer(adapter)
    tokenizer = read_tokenizer(folder)
    template, config = adapter / "chat_template.jinja", adapter / "tokenizer_config.json"
    if template.is_file():
        tokenizer.chat_template = template.read_text(encoding="utf-8")
    elif config.is_file():
        tokenizer.chat_template = read_json(config).get("chat_template", tokenizer.chat_template)
    return tokenizer
