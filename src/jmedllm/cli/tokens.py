"""The command `jmedllm tokens`."""

from pathlib import Path
from typing import Annotated

import typer

from jmedllm.cli.ending import options, print_ending
from jmedllm.cli.options import AsJson, IgnoreAdapter
from jmedllm.errors import InputError

COLUMNS = ["ja_label", "en_label"]
"""The columns of a term and its translation in exports of Wikidata."""


def tokens(
    tokenizer: Annotated[
        list[str],
        typer.Option(
            help="Directory of a model or tokenizer, or id in the local Hugging Face cache; give it once for each."
        ),
    ],
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="PATH",
            help="Files and folders of text, of the kinds that `jmedllm corpus build` reads.",
            show_default="none",
        ),
    ] = None,
    terms: Annotated[Path | None, typer.Option(help="CSV file of medical terms.", show_default="none")] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(help="Column of terms in that file; give it once for each.", show_default=" and ".join(COLUMNS)),
    ] = None,
    field: Annotated[str, typer.Option(help="Key of the text in .jsonl files.")] = "text",
    ignore_adapter: IgnoreAdapter = False,
    as_json: AsJson = False,
) -> None:
    """Count the tokens of texts and medical terms, by language."""
    from dataclasses import asdict

    from jmedllm.corpus.fertility import read_terms, term_fertility, term_table, text_fertility, text_table
    from jmedllm.corpus.readers.reader import read_documents
    from jmedllm.files import to_json
    from jmedllm.models.folder import require_unambiguous, resolve
    from jmedllm.models.tokenizer.load import read_tokenizer

    texts = paths or []
    if not texts and terms is None:
        raise InputError("nothing to count: give files or folders of text, or --terms")
    columns = {} if terms is None else read_terms(terms, column or COLUMNS)
    loaded = {}
    for name in tokenizer:
        require_unambiguous(folder := resolve(name), ignore_adapter=ignore_adapter)
        loaded[name] = read_tokenizer(folder)
    documents = (document for path in texts for document in read_documents(path, field))
    of_texts = text_fertility(loaded, documents) if texts else []
    of_terms = [row for name, cells in columns.items() for row in term_fertility(loaded, name, cells)]
    if as_json:
        rows = {"texts": list(map(asdict, of_texts)), "terms": list(map(asdict, of_terms))}
        typer.echo(to_json(rows, indent=2))
    else:
        tables = [text_table(of_texts)] * bool(of_texts) + [term_table(of_terms)] * bool(of_terms)
        typer.echo("\n".join(tables), nl=False)
        if texts:
            print_ending(
                "corpus", "build", *texts, *options(field=field if field != "text" else None), "--output", "DIR"
            )
