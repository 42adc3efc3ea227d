"""What a user did wrong, told in one line."""

import difflib
from collections.abc import Iterable
from collections.abc import Sequence


class UserError(ValueError):
    """A mistake of the user's: the message is one line, shown without trace.

    The line says what is wrong, where, what was received, what is allowed
    and what to do. The command line ends with status 2 on it.
    """


def few(names: Sequence[str]) -> str:
    """Returns the first five of `names` as text, with dots for the rest."""
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def nearest(name: str, names: Iterable[str]) -> str:
    """Returns ' Did you mean ...?' for the closest of `names`, or ''."""
    close = difflib.get_close_matches(name, list(names), 1)
    return f" Did you mean {close[0]}?" if close else ""
