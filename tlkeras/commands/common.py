"""What several commands do alike."""

import contextlib
import gc
import pathlib
import signal
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING
from typing import Any

from absl import flags

from tlkeras import errors
from tlkeras import files
from tlkeras import records
from tlkeras.machine import native_messages
from tlkeras.settings import config as configs

if TYPE_CHECKING:
    from tlkeras import progress as progresses

# Objects made between two searches for garbage, of which traces make millions.
_GARBAGE = 10_000


def configuration(values: flags.FlagValues) -> configs.Config:
    """Returns the settings: defaults, overruled by a file, then by flags."""
    return configs.resolve(values.config, given(values))


def given(values: flags.FlagValues) -> dict[str, Any]:
    """Returns the settings that were given, by name."""
    return {
        name: values[name].value
        for name in configs.settings()
        if name in values and values[name].present
    }


def output_file(values: flags.FlagValues, name: str) -> pathlib.Path | None:
    """Returns the file of a flag, checked, None where none is asked for."""
    path = values[name].value
    return files.check_file(path, name) if path else None


def progress_of(
    values: flags.FlagValues,
    planned: tuple[records.Phase, ...] = (),
    *,
    brief: bool = False,
) -> "progresses.Progress":
    """Returns what shows the progress that the flags ask for."""
    # rich takes a tenth of a second to import.
    from tlkeras import progress as progresses

    return progresses.Progress(
        planned,
        quiet=values.quiet,
        brief=brief and not values.verbose,
        full=values.verbose,
    )


@contextlib.contextmanager
def loading(progress: "progresses.Progress") -> Iterator[None]:
    """Says what is waited for while TensorFlow is imported, which is noisy."""
    with (
        progress.busy("loading TensorFlow"),
        native_messages.silenced(),
        _importing_whole("tensorflow"),
    ):
        # Hundreds of thousands of objects are made that stay: Python would
        # look for garbage among them again and again, 2 s in a short run.
        gc.disable()
        try:
            yield
        finally:
            gc.freeze()
            gc.set_threshold(_GARBAGE)
            gc.enable()


@contextlib.contextmanager
def _importing_whole(name: str) -> Iterator[None]:
    """Lets an interrupt wait while the block imports the module `name`.

    TensorFlow's loses an interrupt, or ends with an error that says nothing of
    it: 4 in 37 tries.
    """
    waiting: list[int] = []

    def interrupt(number: int, frame: object) -> None:
        spec = getattr(sys.modules.get(name), "__spec__", None)
        if not getattr(spec, "_initializing", False):
            raise KeyboardInterrupt
        waiting.append(number)

    main = threading.current_thread() is threading.main_thread()
    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not (main and usual):
        # No signal comes here, or somebody else takes it.
        yield
        return
    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if waiting:
            raise KeyboardInterrupt


@contextlib.contextmanager
def going_on(directory: pathlib.Path) -> Iterator[None]:
    """Tells an interrupt of the block in which directory the work goes on."""
    try:
        yield
    except KeyboardInterrupt:
        there = directory.exists()
        raise KeyboardInterrupt(*[str(directory)] * there) from None


def fail(message: str, status: int) -> int:
    """Says what went wrong, and returns the exit status."""
    errors.say(f"tlkeras: {message}", sys.stderr)
    return status
