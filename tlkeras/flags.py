"""Settings as absl flags, and their help."""

import textwrap
from collections.abc import Iterable

from absl import flags

from tlkeras.settings import setting as setting_rules


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


def describe(values: flags.FlagValues) -> str:
    """Returns the flags as lines for a help text."""
    lines = []
    for name in sorted(values):
        flag = values[name]
        shown = flag.default
        if flag.boolean:
            shown = str(shown).lower()
        elif type(shown) is float:
            shown = f"{shown:g}"
        lines.append(f"  --{name}={shown}")
        lines += textwrap.wrap(
            flag.help,
            80,
            initial_indent=" " * 6,
            subsequent_indent=" " * 6,
            break_on_hyphens=False,
        )
    return "\n".join(lines)


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
