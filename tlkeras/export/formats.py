"""What a model can be exported to: a row each."""

import contextlib
import dataclasses
import importlib
import importlib.metadata
import importlib.util
import os
import pathlib
import warnings
from collections.abc import Mapping
from collections.abc import Sequence
from typing import TYPE_CHECKING
from typing import Any

from tlkeras import errors
from tlkeras import files
from tlkeras.machine import keras_private
from tlkeras.machine import native_messages

if TYPE_CHECKING:
    from tlkeras import progress as progresses
    from tlkeras.export import samples as all_samples
    from tlkeras.models import saving


@dataclasses.dataclass(frozen=True)
class Format:
    """A format for serving.

    module: in `tlkeras.export`; its `convert(classifier, directory,
      known, samples)` writes the files of the model.
    file: what the runtime opens, in the directory of the export.
    runtime: the distribution that runs it, opened by the function `opener` of
      `tlkeras.export.runtimes`.
    needs: modules that must be installed to write and to prove it.
    dtype, batch: of the input; batch None is any number of images.
    exact: whether it computes as the model does, in float32.
    by_itself: keywords of the opener for what the runtime does unasked, where
      that is something else.
    """

    name: str
    module: str
    file: str
    runtime: str
    opener: str
    needs: tuple[str, ...] = ()
    dtype: str = "float32"
    batch: int | None = None
    exact: bool = True
    by_itself: tuple[tuple[str, str], ...] = ()


# fmt: off
FORMATS = (
    Format("saved_model", "saved_model", ".", "tensorflow", "saved_model",
           dtype="uint8"),
    Format("litert", "litert", "model.tflite", "ai-edge-litert", "litert",
           ("ai_edge_litert",), batch=1),
    Format("litert_int8", "litert", "model.tflite", "ai-edge-litert", "litert",
           ("ai_edge_litert",), dtype="uint8", batch=1, exact=False),
    Format("onnx", "onnx", "model.onnx", "onnxruntime", "onnx",
           ("tf2onnx", "onnx", "onnxruntime")),
    Format("openvino", "openvino", "model.xml", "openvino", "openvino",
           ("openvino",), by_itself=(("precision", ""),)),
)
# fmt: on
NAMES = tuple(known.name for known in FORMATS)


@dataclasses.dataclass(frozen=True)
class Exported:
    """What an export came to, by the names of the formats.

    directories: where each that was written stands. proofs: how its file
    answers, as model.json has it. refused: why others were not written.
    """

    directories: Mapping[str, pathlib.Path]
    proofs: Mapping[str, Mapping[str, Any]]
    refused: Mapping[str, str]


def parse(text: str) -> tuple[Format, ...]:
    """Returns the formats that `text` names, with commas between them.

    Raises `UserError` for one that is unknown, named twice or not installed.
    """
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in NAMES:
            raise errors.UserError(
                f"`format` must be one of {', '.join(NAMES)}, or several with "
                f"commas. Received: {name!r}.{errors.nearest(name, NAMES)}"
            )
        if names.count(name) > 1:
            raise errors.UserError(f"`format` names {name} twice.")
    chosen = tuple(FORMATS[NAMES.index(name)] for name in names)
    for known in chosen:
        missing = [
            each for each in known.needs if not importlib.util.find_spec(each)
        ]
        if missing:
            raise errors.UserError(
                f"`format` {known.name} needs {', '.join(missing)}: pip "
                "install 'tlkeras[export]'."
            )
    return chosen


def export(
    model: str | os.PathLike,
    directory: str | os.PathLike,
    formats: str,
    *,
    data: str = "",
    data_dir: str = "",
    calibration: str = "",
    max_images: int = 1000,
    max_changed: float = 0.05,
    tta: str = "model",
    cache_dir: str | os.PathLike,
    progress: "progresses.Progress",
) -> Exported:
    """Writes the model of a run or .keras file to a new directory.

    formats: their names, with commas; of several each gets a folder of its
    name. data: a source whose images they are proved on; '' takes the test
    images of the run, or two photographs where these are gone. calibration:
    as for `samples.calibration`. max_changed: share of answers that a file may
    change. tta: as of `saving.load`.

    A file gets its name when it has been proved; one that fails leaves nothing
    and is told in `refused`. Raises `UserError` where nothing can be written.
    """
    import keras

    from tlkeras.export import samples as all_samples
    from tlkeras.models import saving

    chosen = parse(formats)
    if keras.backend.backend() != "tensorflow":
        return _elsewhere(
            chosen,
            pathlib.Path(directory),
            progress,
            model=model,
            output=directory,
            format=formats,
            data=data,
            data_dir=data_dir,
            calibration=calibration,
            max_images=max_images,
            max_changed=max_changed,
            tta=tta,
            cache_dir=cache_dir,
        )
    classifier = saving.load(model, tta=tta)
    if data:
        samples = all_samples.of_data(
            model,
            classifier,
            data,
            data_dir=data_dir,
            max_images=max_images,
            cache_dir=cache_dir,
            progress=progress,
        )
    else:
        samples = all_samples.of_run(
            model,
            classifier,
            max_images=max_images,
            cache_dir=cache_dir,
            progress=progress,
        ) or all_samples.photographs(classifier)
    if not all(known.exact for known in chosen):
        samples = dataclasses.replace(
            samples,
            calibration=all_samples.calibration(
                model,
                classifier,
                calibration,
                cache_dir=cache_dir,
            ),
        )
    directories, proofs, refused = {}, {}, {}
    for known in chosen:
        place = _place(pathlib.Path(directory), known, chosen)
        progress.detail(f"writing and proving {known.name}")
        try:
            with files.replacing(place) as temporary:
                proofs[known.name] = _one(
                    known,
                    model,
                    classifier,
                    temporary,
                    samples,
                    max_changed,
                )
            directories[known.name] = place
        except errors.UserError as error:
            refused[known.name] = str(error)
    return Exported(directories, proofs, refused)


def _place(
    directory: pathlib.Path, known: Format, chosen: Sequence[Format]
) -> pathlib.Path:
    return directory / known.name if len(chosen) > 1 else directory


def _elsewhere(
    chosen: Sequence[Format],
    directory: pathlib.Path,
    progress: "progresses.Progress",
    **settings: Any,
) -> Exported:
    """Lets a process that computes on TensorFlow export, and reads the proofs.

    Raises `UserError` where it wrote nothing and told of no format.
    """
    from tlkeras.export import elsewhere

    progress.detail("TensorFlow writes and proves, in a process of its own")
    done = elsewhere.export(
        *(f"--{name}={value}" for name, value in settings.items() if value)
    )
    directories, proofs, refused = {}, {}, {}
    for known in chosen:
        place = _place(directory, known, chosen)
        if (place / "model.json").exists():
            directories[known.name] = place
            proofs[known.name] = files.read_json(place / "model.json")["proof"]
        for line in done.stderr.splitlines():
            before, found, why = line.partition(f"tlkeras: {known.name}: ")
            if found and not before:
                refused[known.name] = why
    if not directories and not refused:
        raise errors.UserError(elsewhere.last_line(done))
    return Exported(directories, proofs, refused)


def _one(
    known: Format,
    model: str | os.PathLike,
    classifier: "saving.TrainedModel",
    directory: pathlib.Path,
    samples: "all_samples.Samples",
    max_changed: float,
) -> dict[str, Any]:
    """Writes one format to `directory`, proves it, and what travels with it."""
    from tlkeras.export import companions
    from tlkeras.export import proof
    from tlkeras.export import runtimes

    directory.mkdir()
    described = companions.describe(
        model,
        classifier,
        name=known.name,
        file=known.file,
        dtype=known.dtype,
        batch=known.batch,
        packages=_versions((known.runtime, *known.needs)),
    )
    opener = getattr(runtimes, known.opener)
    module = importlib.import_module(f"tlkeras.export.{known.module}")
    # Converters and runtimes write a lot, and none of it is for the user.
    with native_messages.silenced(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            module.convert(classifier, directory, described, samples)
        except errors.UserError:
            raise
        except Exception as error:
            if keras_private.is_out_of_memory(error):
                raise
            lines = str(error).strip().splitlines() or ["it said nothing"]
            raise proof.ExportError(
                f"its converter ended with {type(error).__name__}: "
                f"{lines[0][:300].rstrip('.')}. Export to another format."
            ) from error
        proved = proof.prove(
            classifier,
            opener,
            directory / known.file,
            samples,
            exact=known.exact,
            max_changed=max_changed,
            runtime=f"{known.runtime} {described['versions'][known.runtime]}",
            own_threads=known.runtime != "tensorflow",
            by_itself=dict(known.by_itself),
        )
    return companions.write(directory, described, proved, opener, known.runtime)


def _versions(names: Sequence[str]) -> dict[str, str]:
    """Returns the versions of distributions, where there are any."""
    found = {}
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found
