"""The command `jmedllm tokens`."""

from pathlib import Path
from typing import Annotated

import typer

from jmedllm.cli.options import IgnoreAdapter
from jmedllm.errors import InputError

COLUMNS = ["ja_label", "en_label"]
"""What Wikidata exports call a term and its translation."""


def tokens(
    tokenizer: Annotated[
        list[str], typer.Option(help="Directory of a model or tokenizer, or cached hub id; one or more.")
    ],
    text: Annotated[
        list[Path] | None, typer.Option(help="Files and folders, as corpus build reads them; one or more.")
    ] = None,
    more: Annotated[list[Path] | None, typer.Argument(metavar="[PATH...]", hidden=True)] = None,
    terms: Annotated[Path | None, typer.Option(help="CSV file of terms.")] = None,
    column: Annotated[list[str] | None, typer.Option(help=f"Its columns of terms [{' and '.join(COLUMNS)}].")] = None,
    field: Annotated[str, typer.Option(help="Key of the text in lines of JSON.")] = "text",
    ignore_adapter: IgnoreAdapter = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as JSON.")] = False,
) -> None:
    """Count how finely tokenizers cut texts and medical terms, by language."""
    from dataclasses import asdict

    from jmedllm.corpus.fertility import read_terms, term_fertility, term_table, text_fertility, text_table
    from jmedllm.corpus.readers.read import read_documents
    from jmedllm.files import to_json
    from jmedllm.models.folder import require_unambiguous, resolve
    from jmedllm.models.tokenizer.load import read_tokenizer

    paths = [*(text or ()), *(more or ())]
    if not paths and terms is None:
        raise InputError("nothing to count: give --text or --terms")
    columns = {} if terms is None else read_terms(terms, column or COLUMNS)
    loaded = {}
    for name in tokenizer:
        require_unambiguous(folder := resolve(name), ignore_adapter=ignore_adapter)
        loaded[name] = read_tokenizer(folder)
    documents = (document for path in paths for document in read_documents(path, field))
    of_texts = text_fertility(loaded, documents) if paths else []
    of_terms = [row for name, cells in columns.items() for row in term_fertility(loaded, name, cells)]
    if as_json:
        rows = {"texts": list(map(asdict, of_texts)), "terms": list(map(asdict, of_terms))}
        typer.echo(to_json(rows, indent=2))
    else:
        tables = [text_table(of_texts)] * bool(of_texts) + [term_table(of_terms)] * bool(of_terms)
        typer.echo("\n".join(tables), nl=False)
