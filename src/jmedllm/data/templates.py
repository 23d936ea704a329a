"""Extract the published prompt templates from the Python file of upstream."""

import ast
import json

from jmedllm.errors import InputError

HEAD = {
    "source": "stardust-coder/japanese-lm-med-harness@ef9544a",
    "license": "CC BY-SA 4.0",
    "syntax": "liquid: {{instruction}} = question, {{input}} = choices",
}


def templates_as_json(python: bytes) -> bytes:
    """Extract every `name = Template("...")` of a Python file as JSON, without running the file.

    Raises:
        InputError: the bytes are not a Python file, because upstream or a proxy sent something else.
    """
    try:
        statements = ast.parse(python).body
    except (SyntaxError, ValueError) as error:
        raise InputError(f"the upstream templates are not a Python file: {error}; use --mirror") from error
    templates = {}
    for statement in statements:
        match statement:
            case ast.Assign(
                targets=[ast.Name(id=name)],
                value=ast.Call(func=ast.Name(id="Template"), args=[ast.Constant(value=str(text))]),
            ):
                templates[name] = text
    return json.dumps({**HEAD, "templates": templates}, ensure_ascii=False, indent=1).encode()
