"""What mkdocs writes from the code: settings, API pages, the picture.

`python docs/hooks.py` draws docs/house.svg anew, from the table of levels.
"""

import html
import pathlib
import re
from collections.abc import Iterable
from typing import Any

import tlkeras
from tlkeras import cli
from tlkeras.settings import commands
from tlkeras.settings import setting as setting_rules
from tlkeras.settings import strategies

DOCS = pathlib.Path(__file__).parent

_SETTINGS = """\
# Settings

All settings of all commands, as the code has them. On the command line they
are `--name=value`, in Python keyword arguments, in a TOML file `name = value`;
a flag overrules the file, and the file the default. Settings of a run that
several commands share are listed once, under `train`.

"""
_API = """\
# Python

Importing `tlkeras` imports neither Keras nor TensorFlow; its names do when they
are first used. All settings are explained on [their page](settings.md).

"""


def settings_page() -> str:
    """Returns the page of all settings, as Markdown."""
    shared = {setting.name for setting in cli._COMMANDS["train"].settings}
    sections = [_SETTINGS, "## All commands\n\n"]
    sections += [_entry("all", setting) for setting in commands.COMMON]
    for name, command in cli._COMMANDS.items():
        sections.append(f"## tlkeras {name}\n\n{command.summary}\n\n")
        usage = f"tlkeras {name} {command.usage}".strip()
        sections.append(f"```text\n{usage}\n```\n\n")
        own = [
            setting
            for setting in command.settings
            if name == "train" or setting.name not in shared
        ]
        others = [
            f"[`{setting.name}`](#train-{setting.name})"
            for setting in command.settings
            if setting not in own
        ]
        sections += [_entry(name, setting) for setting in own]
        if others:
            sections.append(f"As for `train`: {', '.join(others)}.\n\n")
    return "".join(sections)


def _entry(command: str, setting: setting_rules.Setting) -> str:
    help = setting.rule.help
    sentences = [f"{help[:1].upper()}{help[1:]}."]
    if setting.default != "":
        sentences.append(f"Default: `{setting.default}`.")
    if allowed := setting_rules.allowed(setting.rule):
        sentences.append(f"Allowed: {allowed}.")
    if readers := strategies.readers(setting.name):
        sentences.append(f"Read by {', '.join(readers)}.")
    return (
        f"### {setting.name} {{ #{command}-{setting.name} }}\n\n"
        f"{' '.join(sentences)}\n\n"
    )


def api_page() -> str:
    """Returns the page of the public names, as Markdown for mkdocstrings."""
    public: dict[str, tuple[str, str]] = tlkeras._PUBLIC
    return _API + "".join(
        f"::: {module}.{attribute}\n\n" for module, attribute in public.values()
    )


def levels() -> list[tuple[int, str, str]]:
    """Returns the level, the name and the duty of each room."""
    table = (DOCS / "architecture.md").read_text(encoding="utf-8")
    found = re.findall(r"^\| (\d+) \| `(\w+)` \| (.+) \|$", table, re.M)
    return [(int(level), room, duty) for level, room, duty in found]


def house(rooms: Iterable[tuple[int, str, str]]) -> str:
    """Returns the house as SVG: a floor for each level, a box for each room."""
    floors: dict[int, list[str]] = {}
    for level, room, _ in rooms:
        floors.setdefault(level, []).append(room)
    width, height, gap, margin = 640, 34, 8, 44
    shapes = []
    for number, (level, names) in enumerate(
        sorted(floors.items(), reverse=True)
    ):
        top = gap + number * (height + gap)
        wide = (width - margin - gap * len(names)) / len(names)
        shapes.append(
            f'<text class="level" x="{margin / 2:g}" '
            f'y="{top + height / 2 + 5:g}">{level}</text>'
        )
        for index, name in enumerate(names):
            left = margin + index * (wide + gap)
            shapes.append(
                f'<rect x="{left:.1f}" y="{top}" width="{wide:.1f}" '
                f'height="{height}" rx="4"/><text x="{left + wide / 2:.1f}" '
                f'y="{top + height / 2 + 5:g}">{html.escape(name)}</text>'
            )
    bottom = gap + len(floors) * (height + gap)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} '
        f'{bottom}" role="img" aria-label="The rooms by level; imports go '
        'downwards">\n<style>rect { fill: #e8f0fa; stroke: #4a74a8 } text { '
        "font: 15px sans-serif; text-anchor: middle; fill: #1c2733 } .level { "
        "fill: #77818c }</style>\n"
        f'<rect x="0" y="0" width="{width}" height="{bottom}" '
        'style="fill: #ffffff; stroke: none"/>\n'
        + "\n".join(shapes)
        + "\n</svg>\n"
    )


def on_files(files: Any, config: Any) -> Any:
    """Adds the pages that are written from the code."""
    from mkdocs.structure.files import File

    pages = {
        "reference/settings.md": settings_page(),
        "reference/api.md": api_page(),
    }
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    return files


if __name__ == "__main__":
    (DOCS / "house.svg").write_text(house(levels()), encoding="utf-8")
