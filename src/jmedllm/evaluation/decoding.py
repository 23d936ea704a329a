"""Decoding of an evaluation: greedy, as the makers of the model recommend, or by given values."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, model_validator

from jmedllm.errors import InputError, unknown
from jmedllm.files import read_json
from jmedllm.models.backends.base import GREEDY, Decoding
from jmedllm.settings import Settings

GENERATION_CONFIG = "generation_config.json"

_SAMPLING = ("temperature", "top_p", "top_k", "min_p")
_VALUES = (*_SAMPLING, "repetition_penalty")

_NO_DECODING = {
    "do_sample", "bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id", "transformers_version",
    "use_cache", "output_attentions", "output_hidden_states", "cache_implementation", "trust_remote_code",
}  # fmt: skip
"""Keys of a generation config that do not choose tokens."""


class DecodingConfig(Settings):
    """How tokens are chosen, and how many responses are sampled; greedy without values."""

    recommended: bool = Field(False, description="use the model's generation_config.json for values not given here")
    temperature: float | None = Field(None, ge=0, description="randomness; 0 is greedy")
    top_p: float | None = Field(None, gt=0, le=1, description="sample from the likeliest tokens with this probability")
    top_k: int | None = Field(None, ge=0, description="sample from this many tokens; 0 for all")
    min_p: float | None = Field(None, ge=0, lt=1, description="least probability, relative to the likeliest token")
    repetition_penalty: float | None = Field(None, gt=0, description="above 1, tokens are repeated less")
    seed: int | None = Field(None, ge=0, description="seed of the random numbers, by default 0")
    samples: int = Field(1, ge=1, description="responses for each item")

    @model_validator(mode="after")
    def _has_an_effect(self) -> "DecodingConfig":
        if self.recommended or self.temperature:
            return self
        for name in _SAMPLING[1:]:
            if getattr(self, name) is not None:
                raise ValueError(f"{name} has no effect on greedy decoding; give a temperature above 0, too")
        if self.samples > 1:
            raise ValueError(_equal(self.samples))
        if self.seed is not None:
            raise ValueError("seed has no effect on greedy decoding; give a temperature above 0, too")
        return self

    @property
    def values(self) -> Decoding:
        """The values for a backend, of settings without `recommended`."""
        assert not self.recommended, "the model's recommended values are not known yet"
        return Decoding(**{name: value for name in _VALUES if (value := getattr(self, name)) is not None})

    def settings(self) -> dict[str, Any]:
        """Return what the settings of an evaluation record: how tokens are chosen, and the number of samples."""
        if self.recommended:
            return {"decoding": self.model_dump(exclude={"samples"}, exclude_defaults=True)}
        values = asdict(self.values)
        if self.values == GREEDY:
            return {"decoding": "greedy"}
        if not self.temperature:
            return {"decoding": {"temperature": 0.0, "repetition_penalty": values["repetition_penalty"]}}
        return {"decoding": values | {"seed": self.seed or 0}, "samples": self.samples}


GREEDY_CONFIG = DecodingConfig()


def _equal(samples: int) -> str:
    return f"{samples} samples of greedy decoding are the same response; give a temperature above 0, or 1 sample"


def named(value: object) -> object:
    """Return the settings of `greedy` and `recommended`; other values as they are."""
    if not isinstance(value, str):
        return value
    known = {"greedy": {}, "recommended": {"recommended": True}}
    if value not in known:
        raise ValueError("give greedy, recommended, or values such as {temperature: 0.6, top_p: 0.95}")
    return known[value]


def parse_decoding(text: str, *, samples: int | None = None, seed: int | None = None) -> dict[str, Any]:
    """Parse --decoding, such as "recommended" or "temperature=0.6,top_p=0.95", with --samples and --seed.

    Raises:
        InputError: a name is unknown, or a value is no number.
    """
    found: dict[str, Any] = {}
    known = ("greedy", *DecodingConfig.model_fields)
    for part in filter(None, map(str.strip, text.split(","))):
        name, equals, value = part.partition("=")
        if name in ("greedy", "recommended") and not equals:
            found |= {"recommended": True} if name == "recommended" else {}
        elif name not in DecodingConfig.model_fields or not equals:
            raise InputError(f"--decoding {text!r}: {unknown('setting', name, known)}")
        else:
            found[name] = _number(name, value, text)
    if "greedy" in text.split(",") and found:
        raise InputError(f"--decoding {text!r}: greedy takes no other values; leave it or them out")
    for name, option in (("samples", samples), ("seed", seed)):
        if option is not None and found.setdefault(name, option) != option:
            raise InputError(f"--{name} {option} contradicts --decoding {text!r}; give one of them")
    return found


def _number(name: str, text: str, option: str) -> int | float:
    whole = name in ("top_k", "seed", "samples")
    try:
        return int(text) if whole else float(text)
    except ValueError:
        raise InputError(f"--decoding {option!r}: {name} must be {'an integer' if whole else 'a number'}") from None


def recommended_for(config: DecodingConfig, folder: Path, name: str) -> tuple[DecodingConfig, str]:
    """Return the decoding that a model's generation config recommends; values of `config` replace its own.

    As in transformers, tokens are sampled only if it has `do_sample: true`.

    Returns:
        The decoding, and a note on what was used and what was ignored.

    Raises:
        InputError: there is no generation config, a value is invalid, or several samples would be equal.
    """
    file = folder / GENERATION_CONFIG
    if not file.is_file():
        raise InputError(
            f"decoding: recommended: {name} has no {GENERATION_CONFIG}; give values, such as temperature: 0.6 "
            "(--decoding temperature=0.6)"
        )
    stored = read_json(file)
    if not isinstance(stored, dict):
        raise InputError(f"{file}: is not a JSON object; give values instead of decoding: recommended")
    theirs = {key: value for key, value in stored.items() if value is not None and not key.startswith("_")}
    readable = _VALUES if theirs.get("do_sample") is True else _VALUES[-1:]
    used = {key: theirs[key] for key in readable if key in theirs}
    ignored = {key: value for key, value in theirs.items() if key not in used and key not in _NO_DECODING}
    given = config.model_dump(include={*_VALUES}, exclude_none=True)
    # Sampling without a temperature is sampling at temperature 1.
    neutral = {"temperature": 1.0} if theirs.get("do_sample") is True else {}
    own = {"seed": config.seed} if neutral or given.get("temperature") else {}
    try:
        found = DecodingConfig(**(neutral | used | given | own | {"samples": config.samples}))
    except ValidationError as error:
        first = error.errors()[0]
        where = f"{'.'.join(map(str, first['loc']))} " if first["loc"] else ""
        problem = first["msg"].removeprefix("Value error, ")
        raise InputError(f"{file}: {where}{problem[0].lower()}{problem[1:]}") from None
    note = f"Decoding of {name}: {described(found.settings()['decoding'])}, as {GENERATION_CONFIG} recommends"
    if given:
        note += f", with {_listed(given)} given"
    if ignored:
        note += f". Ignored of it: {_listed(ignored)}"
        note += " (do_sample is not true)" if not neutral and ignored.keys() & {*_SAMPLING} else ""
    return found, f"{note}."


def described(decoding: str | Mapping[str, Any]) -> str:
    """Format decoding as the settings of an evaluation record it, without values that have no effect."""
    if isinstance(decoding, str):
        return decoding
    neutral = asdict(GREEDY)
    shown = {key: value for key, value in decoding.items() if key not in neutral or value != neutral[key]}
    return ", ".join(([] if decoding["temperature"] else ["greedy"]) + [_listed(shown)])


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in values.items())
