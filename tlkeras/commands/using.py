"""The commands that use a model."""

import contextlib
import os
import sys
from collections.abc import Sequence

from absl import flags

from tlkeras import errors
from tlkeras import files
from tlkeras import places
from tlkeras.commands import common
from tlkeras.data import sources
from tlkeras.export import formats


def predict(values: flags.FlagValues, positional: list[str]) -> int:
    """Labels images."""
    model = places.check_model(values.model)
    paths = places.find_images(positional)
    table = common.output_file(values, "csv")
    folders = (
        *places.image_folders(positional, paths),
        *places.data_of_model(model),
    )
    places.check_outputs([model, *paths], folders=folders, csv=table)
    sorted_into = None
    if values.sort_into:
        sorted_into = places.new_directory(values.sort_into, "sort_into")
        places.check_outside(sorted_into, folders, "sort_into")
    progress = common.progress_of(values)
    with common.loading(progress):
        from tlkeras.report import terminal
        from tlkeras.scoring import predicting
        from tlkeras.scoring import sorting
    prediction = predicting.predict(
        values.model,
        paths,
        coverage=values.coverage,
        tta=values.tta,
        progress=progress,
    )
    if table:
        predicting.write(
            table,
            {"path": prediction.paths},
            prediction.probabilities,
            prediction.labels,
            after=prediction.columns,
            task=prediction.task,
            all_classes=values.probabilities == "all",
            top=values.top,
        )
    if sorted_into:
        sorting.copy(prediction, sorted_into)
    terminal.predictions(prediction, values.csv, top=values.top)
    return _left_out(prediction.failed, paths)


def explain(values: flags.FlagValues, positional: list[str]) -> int:
    """Draws where a model sees the evidence."""
    model = places.check_model(values.model)
    paths = places.find_images(positional)
    directory = places.new_directory(values.output, "output")
    read = (
        *places.image_folders(positional, paths),
        *places.data_of_model(model),
    )
    places.check_outside(directory, read, "output")
    progress = common.progress_of(values)
    with common.loading(progress):
        from tlkeras.models import saving
        from tlkeras.report import explained
        from tlkeras.scoring import explaining
    failed: list[tuple[str, str]] = []
    with progress.busy("loading the model"):
        loaded = saving.load(model)
    explanations = explaining.explain_files(
        loaded,
        paths,
        label=values.label,
        failed=failed,
        progress=progress,
    )
    images = explained.write(directory, explanations, paths, model=values.model)
    errors.say(f"{errors.count(images, 'image')}: {directory / explained.PAGE}")
    return _left_out(failed, paths)


def evaluate(values: flags.FlagValues, positional: list[str]) -> int:
    """Scores a model on labelled images."""
    model = places.check_model(values.model)
    table = common.output_file(values, "csv")
    metrics = common.output_file(values, "json")
    cache_dir = files.cache_directory(values.cache_dir)
    progress = common.progress_of(values)
    with common.loading(progress):
        source = sources.open(
            sources.absolute(values.data),
            data_dir=values.data_dir,
            progress=progress,
        )
        data = (*places.data_folders(source), *places.data_of_model(model))
        places.check_cache(values.cache_dir, data)
        places.check_outputs(
            [model, *places.inputs(source)],
            folders=(*data, values.data_dir, cache_dir),
            csv=table,
            json=metrics,
        )
        from tlkeras.report import terminal
        from tlkeras.scoring import evaluate as evaluation
        from tlkeras.scoring import predicting
    result = evaluation.evaluate(
        values.model,
        source,
        split=values.split,
        coverage=values.coverage,
        slices=values.slices,
        top_k=values.top_k,
        tta=values.tta,
        cache_dir=cache_dir,
        progress=progress,
    )
    if table:
        predicting.write(
            table,
            {
                "path": result.prediction.paths,
                "true_label": result.true_labels,
            },
            result.prediction.probabilities,
            result.prediction.labels,
            after=result.prediction.columns,
            task=result.prediction.task,
            all_classes=values.probabilities == "all",
        )
    if metrics:
        evaluation.write_metrics(result, metrics)
    terminal.scores(result)
    return 0


def export(values: flags.FlagValues, positional: list[str]) -> int:
    """Writes a model for serving."""
    formats.parse(values.format)
    model = places.check_model(values.model)
    given = [
        sources.file_place(sources.absolute(each))
        for each in (values.data, values.calibration)
        if each
    ]
    read = [*places.data_of_model(model), *filter(os.path.isdir, given)]
    places.check_cache(values.cache_dir, read)
    cache_dir = files.cache_directory(values.cache_dir)
    directory = places.new_directory(values.output, "output")
    places.check_outside(directory, read, "output")
    progress = common.progress_of(values)
    with common.loading(progress):
        from tlkeras.export import samples  # noqa: F401
        from tlkeras.report import terminal
    found = formats.export(
        values.model,
        directory,
        values.format,
        data=values.data,
        data_dir=values.data_dir,
        calibration=values.calibration,
        max_images=values.max_images,
        max_changed=values.max_changed,
        tta=values.tta,
        cache_dir=cache_dir,
        progress=progress,
    )
    if found.proofs:
        terminal.exports(found.proofs)
        for name, place in found.directories.items():
            errors.say(f"{name}: {place}")
    for name, why in found.refused.items():
        common.fail(f"{name}: {why}", 2)
    return 2 if found.refused else 0


def serve(values: flags.FlagValues, positional: list[str]) -> int:
    """Answers pictures by HTTP."""
    places.check_model(values.model)
    with common.loading(common.progress_of(values)):
        from tlkeras.models import saving
        from tlkeras.serving import answers
        from tlkeras.serving import server as servers
    answerer = answers.Answerer(saving.load(values.model))
    answerer.warm_up()
    with servers.Server(
        answerer,
        host=values.host,
        port=values.port,
        most_bytes=1_000_000 * values.max_mb,
        seconds=values.timeout,
    ) as server:
        errors.say(f"{server.address} (Ctrl-C ends it)")
        sys.stdout.flush()
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()
    return 0


def _left_out(failed: Sequence[tuple[str, str]], paths: Sequence[str]) -> int:
    """Says how many files are no images; the status is 2 if none is one."""
    if not failed:
        return 0
    path, reason = failed[0]
    return common.fail(
        f"{len(failed)} of {len(paths)} files are no images that can be read "
        f"and are left out, first {path}: {reason}",
        2 if len(failed) == len(paths) else 0,
    )
