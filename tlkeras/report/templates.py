"""The templates of the pages, and what they have in common."""

import base64
import os
import shlex
from importlib import resources

import jinja2

from tlkeras import errors
from tlkeras.data import sources


def load(name: str, **filters: object) -> jinja2.Template:
    """Returns the template of this name; its values are escaped.

    Those of a page as HTML needs it, those of a text as a terminal does.
    """
    html = name.endswith(".html")
    surroundings = jinja2.Environment(
        autoescape=html,
        finalize=None if html else _printable,
        loader=jinja2.FunctionLoader(_source),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    surroundings.filters |= {
        "picture": _picture,
        "quoted": shlex.quote,
        **filters,
    }
    return surroundings.get_template(name)


def title(name: str) -> str:
    """Returns what a page on the data `name` is headed with."""
    place = sources.file_place(name)
    if place:
        return os.path.basename(os.path.normpath(place)) or place
    return name.partition(":")[2] or name


def short(name: str, path: str) -> str:
    """Returns an image's path below the folder of the data `name`."""
    return path.removeprefix(name.partition(":")[2].rstrip("/") + "/")


def writable(text: str) -> str:
    """Returns `text` in a form that UTF-8 can hold.

    Names of files need not be text; half a letter cannot be written.
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _printable(value: object) -> object:
    return errors.printable(value) if type(value) is str else value


def _source(name: str) -> str:
    return (
        resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
    )


def _picture(image: bytes) -> str:
    kind = "png" if image.startswith(b"\x89PNG") else "jpeg"
    encoded = base64.b64encode(image).decode("ascii")
    return f"data:image/{kind};base64,{encoded}"
