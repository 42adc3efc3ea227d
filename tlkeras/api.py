"""The way in from Python: train in one call, compare, advise, load."""

import inspect
import os
import textwrap
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
from typing import TYPE_CHECKING
from typing import Any
from typing import TypeVar

import keras

from tlkeras import errors
from tlkeras import files
from tlkeras import places
from tlkeras import plan as plans
from tlkeras import progress as progresses
from tlkeras.comparison import candidates
from tlkeras.export import formats
from tlkeras.machine import processes
from tlkeras.settings import commands
from tlkeras.settings import config as configs
from tlkeras.settings import setting as setting_rules

# Imported in the functions, because JAX takes its devices before TensorFlow.
if TYPE_CHECKING:
    from tlkeras import inference
    from tlkeras.advisor import advice as advices
    from tlkeras.comparison import comparing
    from tlkeras.experiment import running

_Function = TypeVar("_Function", bound=Callable[..., Any])


def _lists(
    settings: Iterable[setting_rules.Setting],
) -> Callable[[_Function], _Function]:
    """Returns a decorator that lists `settings` in a function's docstring.

    Those that are parameters of their own are described there already.
    """

    def listed(function: _Function) -> _Function:
        own = inspect.signature(function).parameters
        lines = []
        for setting in settings:
            if setting.name not in own:
                allowed = setting_rules.allowed(setting.rule)
                lines.append(f"    {setting.name} = {setting.default!r}")
                lines += textwrap.wrap(
                    setting.rule.help + (f" ({allowed})" if allowed else ""),
                    initial_indent=" " * 8,
                    subsequent_indent=" " * 8,
                )
        text = inspect.cleandoc(function.__doc__ or "")
        function.__doc__ = "\n".join([text, "", "Settings:", *lines])
        return function

    return listed


@_lists(commands.TRAIN)
def train(
    data: str = "",
    *,
    workdir: str | os.PathLike = "",
    config: str | os.PathLike = "",
    callbacks: Sequence[keras.callbacks.Callback] = (),
    quiet: bool = False,
    **settings: Any,
) -> "running.Run":
    """Trains a classifier and returns the run.

    data: `folder:PATH`, `csv:PATH`, `tfds:NAME` or `builtin:digits`.
    workdir: directory for the results; '' is a new one below `runs/`.
    config: a TOML file of settings, or the name of a recipe.
    callbacks: Keras callbacks, such as those of W&B and MLflow, for the `fit`
      of each phase. Their `model` is what learns in it: all of the classifier,
      or what is above the stored activations. A head that is solved has no
      `fit`; `head_solver="adam"` gives it one. The best epoch is kept whatever
      they do; one that sets `stop_training` ends its phase.
    quiet: whether nothing is printed.
    settings: those of `tlkeras train`, which overrule the file.

    Raises `UserError` for whatever the caller can mend.

    Example:
        >>> import tlkeras
        >>> run = tlkeras.train(
        ...     "folder:photos",
        ...     backbone="SmallResNet",
        ...     strategy="scratch",
        ...     epochs=1,
        ...     quiet=True,
        ... )
        >>> sorted(run.report["test"]["accuracy"])
        ['groups', 'high', 'low', 'n', 'value']
    """
    several = callbacks if isinstance(callbacks, list | tuple) else [None]
    if not all(isinstance(x, keras.callbacks.Callback) for x in several):
        raise errors.UserError(
            "`callbacks` must be a list of Keras callbacks. Received: "
            f"{errors.shown(callbacks)}."
        )
    given = {**settings, "data": data} if data else settings
    built = configs.resolve(config, given)
    progress = progresses.Progress(built.strategy_phases().planned, quiet=quiet)
    for sentence in configs.unused(built, given):
        progress.say(sentence)
    plan = plans.make(built, workdir, progress=progress)

    from tlkeras import cross_validation
    from tlkeras.experiment import running

    run = cross_validation.run if built.folds else running.run
    return run(plan, callbacks=callbacks, progress=progress)


@_lists(commands.COMPARE)
def compare(
    data: str = "",
    *,
    strategies: str | Sequence[str] = "all",
    seeds: int = 3,
    budget: str | int = "auto",
    drop: str = "none",
    margin: float = 1.0,
    workdir: str | os.PathLike = "",
    config: str | os.PathLike = "",
    quiet: bool = False,
    **settings: Any,
) -> "comparing.Result":
    """Compares strategies on one data set and returns the comparison.

    strategies: their names, or `all`.
    seeds: trainings of each, in [1, 100].
    budget: of each strategy: a number of steps, seconds as `120s`, or `auto`.
    drop: `clear` leaves a strategy, after a seed, that is clearly worse than
      the best; `none` leaves none.
    margin: points of accuracy by which a strategy may be worse than the best
      and still be called as good, above 0; a test must rule out more.
    workdir, config, quiet, settings: as for `train`, but for what each
      strategy decides by itself.

    Raises `UserError` for whatever the caller can mend.

    Example:
        >>> import tlkeras
        >>> result = tlkeras.compare(
        ...     "folder:photos",
        ...     strategies=["feature_extraction", "pretrained_init"],
        ...     seeds=1,
        ...     budget=6,
        ...     backbone="SmallResNet",
        ...     weights="runs/photos",
        ...     image_size=16,
        ...     quiet=True,
        ... )
        >>> sorted(entry["strategy"] for entry in result.report["strategies"])
        ['feature_extraction', 'pretrained_init']
    """
    given = {**settings, "data": data} if data else settings
    built, unused = candidates.resolve(config, given)
    names = strategies
    if isinstance(strategies, list | tuple):
        names = ",".join(map(str, strategies))
    if not isinstance(names, str):
        raise errors.UserError(
            "`strategies` must be all, or a list of names. Received: "
            f"{errors.shown(strategies)}."
        )
    asked = candidates.settings(
        built,
        names,
        seeds=seeds,
        budget=str(budget),
        drop=drop,
        margin=margin,
    )
    progress = progresses.Progress(quiet=quiet, brief=True)
    for sentence in unused:
        progress.say(sentence)
    plan = plans.make(built, workdir, comparison=True, progress=progress)

    from tlkeras.comparison import comparing

    return comparing.run(plan, asked, progress=progress)


@_lists(commands.ADVISE[: len(commands.ADVISE_READS)])
def advise(
    data: str = "",
    *,
    max_images: int = 1000,
    quiet: bool = False,
    **settings: Any,
) -> "advices.Advice":
    """Returns what speaks for which strategy, without training.

    data: as for `train`, and split as there; only training images are used.
    max_images: at most so many of them, in [2, 1000000].
    quiet: whether nothing is printed.
    settings: those of `tlkeras advise` that say what is measured.

    Raises `UserError` for whatever the caller can mend.

    Example:
        >>> import tlkeras
        >>> advice = tlkeras.advise(
        ...     "folder:photos",
        ...     backbone="SmallResNet",
        ...     weights="runs/photos",
        ...     image_size=16,
        ...     quiet=True,
        ... )
        >>> advice.evidence.depths[-1].linear.value > 0.9
        True
    """
    for name in settings:
        if name not in commands.ADVISE_READS:
            raise errors.UserError(
                f"unknown setting `{name}`."
                f"{errors.nearest(name, commands.ADVISE_READS)} Known are "
                f"{', '.join(commands.ADVISE_READS)}, max_images, quiet."
            )
    setting_rules.check(commands.MAX_IMAGES, max_images, "")
    progress = progresses.Progress(quiet=quiet)
    config = configs.build({**settings, "data": data})
    processes.take_devices()

    from tlkeras.advisor import advice as advices
    from tlkeras.advisor import subject as subjects

    return advices.give(
        subjects.make(config, progress=progress),
        max_images=max_images,
        progress=progress,
    )


def export_model(
    model: str | os.PathLike,
    output: str | os.PathLike,
    *,
    format: str | Sequence[str] = "saved_model",
    data: str = "",
    calibration: str = "",
    max_images: int = 1000,
    max_changed: float = 0.05,
    tta: str = "model",
    quiet: bool = False,
) -> formats.Exported:
    """Writes a model for serving, and proves each file in its own runtime.

    model: the directory of a run, or a model.keras.
    output: a new directory; of several formats each gets a folder in it.
    format: saved_model, litert, litert_int8, onnx, openvino; one or several.
    data: labelled images to prove it on; '' takes the run's test images.
    calibration: images for the ranges of litert_int8; '' takes the run's
      training images.
    max_images: of those that it is proved on, at most.
    max_changed: share of answers that a file may change, in [0, 1].
    tta: what answers are averaged over: flip, none, or as the model has it.
    quiet: whether nothing is printed.

    Raises `UserError` where nothing can be written; a format that fails is
    told in `refused`.

    Example:
        >>> import tlkeras
        >>> done = tlkeras.export_model("runs/photos", "served", quiet=True)
        >>> done.proofs["saved_model"]["changed"], done.refused
        (0, {})
    """
    file = places.check_model(model)
    directory = places.new_directory(output, "output")
    places.check_outside(directory, places.data_of_model(file), "output")
    processes.take_devices()
    return formats.export(
        model,
        directory,
        format if isinstance(format, str) else ",".join(format),
        data=data,
        calibration=calibration,
        max_images=max_images,
        max_changed=max_changed,
        tta=tta,
        cache_dir=files.cache_directory(),
        progress=progresses.Progress(quiet=quiet),
    )


def load(
    path: str | os.PathLike, *, tta: str = "model"
) -> "inference.Classifier":
    """Returns the classifier of a run directory or a model.keras.

    tta: what answers are averaged over: flip, none, or as the model has it.

    Raises `UserError` where there is none.

    Example:
        >>> import tlkeras
        >>> tlkeras.load("runs/photos").model.output_shape
        (None, 3)
    """
    processes.take_devices()

    from tlkeras import inference
    from tlkeras.models import saving

    saved = saving.load(path, tta=tta)
    return inference.Classifier(saved.model, saved.labels, saved)
