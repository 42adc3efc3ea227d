"""The commands that train, or say what training would be worth."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from absl import flags

from tlkeras import files
from tlkeras import places
from tlkeras.commands import common
from tlkeras.settings import commands
from tlkeras.settings import config as configs

if TYPE_CHECKING:
    from tlkeras import plan as plans


def train(values: flags.FlagValues, positional: list[str]) -> int:
    """Trains a classifier."""
    from tlkeras import plan as plans

    config = common.configuration(values)
    progress = common.progress_of(values, config.strategy_phases().planned)
    with common.loading(progress):
        plan = plans.make(config, values.workdir, progress=progress)
        from tlkeras import cross_validation
        from tlkeras.experiment import running
    for sentence in configs.unused(config, common.given(values)):
        progress.say(sentence)
    train = cross_validation.run if config.folds else running.run
    if values.dry_run:
        return _dry_run(plan, values)
    if values.verbose:
        from tlkeras.machine import devices

        for line in configs.to_toml(plan.config).splitlines():
            progress.say(line)
        for name, version in devices.versions().items():
            progress.say(f"{name} {version}")
    with common.going_on(plan.directory):
        run = train(plan, progress=progress)
    if values.quiet and run.report:
        progress.console.quiet = False
        running.say_result(run.report, run.directory, progress)
    return 0


def compare(values: flags.FlagValues, positional: list[str]) -> int:
    """Compares strategies."""
    from tlkeras import plan as plans
    from tlkeras.comparison import candidates

    # A run has a budget, too; here the flag is that of each candidate.
    own = {setting.name for setting in commands.COMPARISON}
    given = {k: v for k, v in common.given(values).items() if k not in own}
    config, unused = candidates.resolve(values.config, given)
    asked = candidates.settings(
        config,
        values.strategies,
        seeds=values.seeds,
        budget=values.budget,
        drop=values.drop,
        margin=values.margin,
    )
    progress = common.progress_of(values, brief=True)
    with common.loading(progress):
        plan = plans.make(
            config, values.workdir, comparison=True, progress=progress
        )
        from tlkeras.comparison import comparing
        from tlkeras.report import terminal
    for sentence in unused:
        progress.say(sentence)
    if values.dry_run:
        images = plans.split_sizes(plan)["train"]
        members = comparing.planned(plan, asked, images=images)
        return _dry_run(plan, values, members, asked.seeds)
    with common.going_on(plan.directory):
        found = comparing.run(plan, asked, progress=progress)
    terminal.comparison(found.report)
    return 0


def _dry_run(
    plan: "plans.Plan",
    values: flags.FlagValues,
    members: Sequence["plans.Plan"] = (),
    seeds: int = 1,
) -> int:
    from tlkeras import progress as progresses
    from tlkeras.comparison import dry_run

    dry_run.show(
        [dry_run.Member(each, seeds) for each in members or [plan]],
        # It is the result, which --quiet leaves.
        progress=progresses.Progress(),
        full=values.verbose,
    )
    return 0


def advise(values: flags.FlagValues, positional: list[str]) -> int:
    """Says what speaks for which strategy."""
    config = configs.build(common.given(values))
    written = common.output_file(values, "json")
    progress = common.progress_of(values)
    with common.loading(progress):
        from tlkeras.advisor import subject as subjects
        from tlkeras.backbones import locate

        subject = subjects.make(config, progress=progress)
        places.check_outputs(
            [locate.weights(config.weights), *places.inputs(subject.source)],
            folders=(
                *places.data_folders(subject.source),
                values.data_dir,
                subject.cache_dir,
            ),
            json=written,
        )
        from tlkeras.advisor import advice as advices
        from tlkeras.report import terminal
    advice = advices.give(
        subject, max_images=values.max_images, progress=progress
    )
    if not values.evidence_only:
        terminal.decision(advice.decision)
        print()
    terminal.evidence(advice)
    if not values.evidence_only:
        terminal.textbook(advice)
        print()
        terminal.situations(advice)
    if written:
        files.write_json(
            written,
            advices.to_json(advice, evidence_only=values.evidence_only),
        )
    return 0


def demo(values: flags.FlagValues, positional: list[str]) -> int:
    """Shows what transfer is worth."""
    directory = files.check_directory(values.workdir, "workdir")
    places.check_outside_runs(directory, "workdir")
    progress = common.progress_of(values)
    with common.loading(progress):
        from tlkeras import demo
    demo.run(directory, progress=progress)
    return 0
