"""What a user did wrong, told in one line."""

import difflib
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable
from collections.abc import Sequence
from typing import TextIO

_CONTROLS = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u2028-\\u202e\\u2066-\\u2069]")


class UserError(ValueError):
    """A mistake of the user's: the message is one line, shown without trace.

    The line says what is wrong, where, what was received, what is allowed
    and what to do. The command line ends with status 2 on it.
    """

    def __str__(self) -> str:
        # Names in it may hold what a terminal would obey, and ends of lines.
        return printable(super().__str__())


def printable(text: str) -> str:
    """Returns `text` with what a terminal would obey as escapes.

    Names of files and classes may hold control characters, which clear a
    screen or write into the title of its window, and marks that turn the
    direction of writing, so that a name reads as another one.
    """
    return _CONTROLS.sub(
        lambda found: found[0].encode("unicode_escape").decode(), text
    )


def say(text: str, stream: TextIO | None = None) -> None:
    """Prints a line, `wrapped` where `stream` (stdout) is a terminal."""
    stream = stream or sys.stdout
    text = printable(text)
    if stream.isatty():
        text = wrapped(text, shutil.get_terminal_size().columns)
    print(text, file=stream)


def wrapped(text: str, columns: int) -> str:
    """Returns a line as lines of a terminal that is `columns` wide.

    It breaks between words only. A command after a colon has a line of its
    own that never breaks, so that it can be copied, and paths below the working
    directory are written from there.
    """
    here = os.path.join(os.getcwd(), "")
    if here != os.sep:
        text = re.sub(rf"(?<![\w./~-]){re.escape(here)}(?=[^\s'])", "", text)
    prose, colon, command = text.partition(": tlkeras ")
    indent = " " * (len(prose) - len(prose.lstrip()) + 2)
    lines = [text]
    if colon or len(text) > columns:
        lines = textwrap.wrap(
            prose + colon[:1],
            columns,
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        )
        if colon:
            lines.append(f"{indent}tlkeras {command}")
    return "\n".join(lines)


def count(number: int, what: str, several: str = "") -> str:
    """Returns `number` of `what`, which is `several` where it is not one.

    Example:
        >>> from tlkeras import errors
        >>> errors.count(1, "image"), errors.count(1200, "class", "classes")
        ('1 image', '1,200 classes')
    """
    return f"{number:,} {what if number == 1 else several or what + 's'}"


def few(names: Sequence[str]) -> str:
    """Returns the first five of `names` as text, with dots for the rest."""
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def nearest(name: str, names: Iterable[str]) -> str:
    """Returns ' Did you mean ...?' for the closest of `names`, or ''."""
    close = difflib.get_close_matches(name, list(names), 1)
    return f" Did you mean {close[0]}?" if close else ""


def shown(value: object) -> str:
    """Returns `value` as a message shows it: as written, but cut off."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        # Python writes no number of more than 4,300 digits.
        return f"a {type(value).__name__} too long to be shown"
    return text if len(text) <= 200 else text[:197] + "..."
