"""Docstrings of the house as Markdown, for the pages of the Python functions.

A docstring says `name: what it is` and `Example:`; a page shows a list of
names, and code.
"""

import re
import textwrap
from typing import Any

import griffe


class Docstrings(griffe.Extension):
    """Rewrites the docstrings of what mkdocstrings collects."""

    def on_object(self, *, obj: griffe.Object, **options: Any) -> None:
        """Rewrites one docstring."""
        if obj.docstring is not None:
            obj.docstring.value = markdown(obj.docstring.value)


def markdown(docstring: str) -> str:
    """Returns a cleaned docstring as Markdown."""
    text, _, example = docstring.partition("\nExample:\n")
    # A name, or several, where a line begins; what goes on is indented.
    text = re.sub(
        r"^([a-z_]\w*(?:, [a-z_]\w*)*): ((?:.*\n?)(?:^ +\S.*\n?)*)",
        lambda found: f"- `{found[1]}`: {_joined(found[2])}\n",
        text,
        flags=re.M,
    )
    # A list begins behind an empty line.
    text = re.sub(r"^(?!- )(.+\n)(?=- `)", r"\1\n", text, flags=re.M)
    if example:
        code = textwrap.dedent(example).strip()
        text = f"{text.rstrip()}\n\n```pycon\n{code}\n```\n"
    return text


def _joined(text: str) -> str:
    return " ".join(text.split())
