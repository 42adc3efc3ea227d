"""Settings as absl flags, and their help."""

import textwrap
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Sequence

from absl import flags

from tlkeras.settings import groups
from tlkeras.settings import setting as setting_rules

# Where a command has fewer flags, all are shown.
_FEW = 12


def make(settings: Iterable[setting_rules.Setting]) -> flags.FlagValues:
    """Returns the flags of a command that has these settings."""
    values = flags.FlagValues()
    for setting in settings:
        allowed = setting_rules.allowed(setting.rule)
        flag = flags.Flag(
            _Parser(setting),
            flags.ArgumentSerializer(),
            setting.name,
            setting.default,
            setting.rule.help + (f" ({allowed})" if allowed else ""),
            boolean=setting.kinds == (bool,),
        )
        flags.DEFINE_flag(flag, values)
    return values


def describe(values: flags.FlagValues, *, full: bool = True) -> str:
    """Returns the flags by group, as lines for a help text.

    full: whether all are shown, or the everyday ones alone if there are many.
    """
    names = set(values)
    full = full or len(names) < _FEW
    blocks = []
    for group in groups.GROUPS:
        listed = group.everyday + (group.others if full else ())
        lines = [
            line
            for name in listed
            if name in names
            for line in _entry(name, values[name])
        ]
        if lines:
            blocks.append("\n".join([f"{group.title}:", *lines]))
    return "\n\n".join(blocks)


def underscores(words: Sequence[str]) -> list[str]:
    """Returns words with `--batch-size=8` as `--batch_size=8`.

    And `--no-tensorboard` as `--notensorboard`.
    """
    found = []
    for word in words:
        if word.startswith("--") and len(word) > 2:
            name, sign, value = word[2:].partition("=")
            if name.startswith("no-"):
                name = name.replace("no-", "no", 1)
            word = f"--{name.replace('-', '_')}{sign}{value}"
        found.append(word)
    return found


def synonym(name: str, known: Collection[str]) -> str:
    """Returns ' Did you mean ...?' where other programs say `name`, else ''.

    known: the flags that there are.
    """
    meant = [each for each in groups.SYNONYMS.get(name, ()) if each in known]
    if not meant:
        return ""
    *first, last = [f"--{each}" for each in meant]
    either = f"{', '.join(first)} or {last}" if first else last
    return f" Did you mean {either}?"


def _entry(name: str, flag: flags.Flag) -> list[str]:
    shown = flag.default
    if flag.boolean:
        shown = str(shown).lower()
    elif type(shown) is float:
        shown = f"{shown:g}"
    return [
        f"  --{name}={shown}",
        *textwrap.wrap(
            flag.help,
            80,
            initial_indent=" " * 6,
            subsequent_indent=" " * 6,
            break_on_hyphens=False,
        ),
    ]


class _Parser(flags.ArgumentParser):
    """Parses a flag's words as its setting allows."""

    def __init__(self, setting: setting_rules.Setting):
        super().__init__()
        self.setting = setting

    def parse(self, argument):
        # absl hands the default to the parser, too.
        if not isinstance(argument, str):
            return argument
        return setting_rules.parse(self.setting, argument)

    def flag_type(self) -> str:
        return "setting"
