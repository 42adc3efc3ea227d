"""The commands that look at images, networks and past runs."""

import contextlib
import shlex

from absl import flags

from tlkeras import errors
from tlkeras import files
from tlkeras import places
from tlkeras.commands import common
from tlkeras.data import sources
from tlkeras.machine import native_messages
from tlkeras.settings import config as configs


def check(values: flags.FlagValues, positional: list[str]) -> int:
    """Looks for what is wrong with labelled images."""
    from tlkeras import plan as plans

    outputs = places.check_places(
        values.data, html=values.html, json=values.json, fix=values.fix
    )
    if values.labels:
        # Beside the page of the check, by its name.
        stem = outputs["html"].with_suffix("")
        for suffix in ("html", "csv"):
            outputs[f"labels_{suffix}"] = files.check_file(
                f"{stem}-labels.{suffix}", "html"
            )
    if values.marked and "fix" not in outputs:
        raise errors.UserError(
            "`marked` says what `fix` leaves out. Give --fix=FILE, too."
        )
    _, size = plans.image_size(values.backbone, values.image_size)
    cache_dir = files.cache_directory(values.cache_dir)
    progress = common.progress_of(values)
    with common.loading(progress):
        if values.labels:
            from tlkeras.advisor import subject as subjects

            config = configs.build(common.given(values))
            subject = subjects.make(config, progress=progress)
        source = sources.open(
            sources.absolute(values.data),
            data_dir=values.data_dir,
            nested=True,
            progress=progress,
        )
        data = places.data_folders(source)
        places.check_cache(values.cache_dir, data)
        places.check_outputs(
            [*places.inputs(source), values.marked],
            folders=(*data, values.data_dir, cache_dir),
            **outputs,
        )
        from tlkeras.advisor import suspects
        from tlkeras.check import audit
        from tlkeras.check import fix as fixes
        from tlkeras.report import checkup as page
        from tlkeras.report import suspects as suspects_page
        from tlkeras.report import terminal
    marked = frozenset[str]()
    if values.marked:
        marked = suspects.marked(files.expand(values.marked))
    found = audit.check(
        source,
        image_size=size,
        max_pixels=values.max_pixels,
        cache_dir=cache_dir,
        progress=progress,
    )
    terminal.checkup(found)
    files.write_text(outputs["html"], page.render(found))
    errors.say(f"all of it, with pictures: {outputs['html']}")
    if "json" in outputs:
        files.write_json(outputs["json"], audit.to_json(found))
    if values.labels:
        with contextlib.closing(
            suspects.prepare(subject, progress=progress)
        ) as images_of:
            ranked = suspects.find(subject, images_of, progress=progress)
            suspects.write(outputs["labels_csv"], images_of, ranked)
            files.write_text(
                outputs["labels_html"],
                suspects_page.render(
                    images_of, ranked, table=outputs["labels_csv"]
                ),
            )
        errors.say(
            f"{len(ranked):,} labels are contradicted: "
            f"{outputs['labels_html']}; mark them in {outputs['labels_csv']}"
        )
    if "fix" in outputs:
        remedy = fixes.without(
            found.source.examples, found.facts, found.remedy, marked
        )
        images = fixes.write(found.source.examples, remedy, outputs["fix"])
        errors.say(
            f"{images:,} of {len(found.facts):,} images: "
            f"--data=csv:{outputs['fix']}"
        )
    elif found.remedy.left_out and not found.remedy.classes:
        errors.say(
            "what is doubtful can be left out: tlkeras check "
            f"{shlex.quote(values.data)} --fix=clean.csv"
        )
    return 1 if found.decisions else 0


def backbones(values: flags.FlagValues, positional: list[str]) -> int:
    """Lists the networks."""
    from tlkeras.backbones import catalog
    from tlkeras.report import terminal

    rows = catalog.BACKBONES
    purpose = str(values["for"].value)
    asked = [name for name in values.measure.split(",") if name.strip()]
    if asked and asked != ["all"]:
        rows = tuple(catalog.find(name.strip()) for name in asked)
    speeds: dict[str, float] = {}
    if asked:
        with native_messages.silenced():
            from tlkeras.backbones import speed
        progress = common.progress_of(values, brief=True)
        for row in rows:
            progress.say(f"{row.name} at {row.default_size} pixels ...")
            speeds[row.name] = speed.measure(row, row.default_size)
    terminal.backbones(rows, purpose=purpose, speeds=speeds)
    return 0


def runs(values: flags.FlagValues, positional: list[str]) -> int:
    """Lists runs, or compares two."""
    from tlkeras.comparison import past_runs
    from tlkeras.comparison import past_runs_text as tables

    if len(positional) > 2:
        raise errors.UserError(
            "two runs can be compared, or a directory of runs listed. "
            f"Received: {len(positional)} paths."
        )
    if len(positional) == 2:
        one, other = map(past_runs.load, positional)
        tables.pair(one, other, past_runs.compare(one, other))
    else:
        folder = positional[0] if positional else "runs"
        tables.listed(past_runs.find(folder, values.sort))
    return 0


def cache(values: flags.FlagValues, positional: list[str]) -> int:
    """Lists what is kept between runs, or removes it."""
    from tlkeras.data import facts
    from tlkeras.machine import compiled
    from tlkeras.report import terminal
    from tlkeras.training import row_store

    directory = files.cache_directory(values.cache_dir)
    places.check_cache(values.cache_dir, [])
    if values.clear:
        facts.clear(directory)
        row_store.trim(directory / row_store.FOLDER, 0)
        compiled.clear(directory)
    terminal.kept(
        directory,
        {
            "scanned images": facts.kept(directory),
            "files of activations": row_store.kept(
                directory / row_store.FOLDER
            ),
            "compiled programs": compiled.kept(directory),
        },
    )
    return 0
