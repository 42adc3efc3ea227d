"""The flags of each command; those of `train` come from the settings."""

import dataclasses

from absl import flags

from tlkeras import config as configs

_PLAIN = {
    "config": "a TOML file of settings, or the name of a recipe; flags "
    "overrule it",
    "model": "the directory of a run, or a model.keras",
    "data": "labelled images: folder:PATH, csv:PATH, tfds:NAME[/CONFIG] or "
    "builtin:digits[CLASSES]",
    "data_dir": "where tfds: finds and keeps its data",
    "csv": "a CSV file to write, with all probabilities",
    "json": "a JSON file to write",
    "output": "a new directory to write to",
}


class _SettingParser(flags.ArgumentParser):
    """Parses a flag's words as its setting allows."""

    def __init__(self, field: dataclasses.Field):
        super().__init__()
        self.field = field

    def parse(self, argument):
        # absl hands the default to the parser, too.
        if not isinstance(argument, str):
            return argument
        return configs.parse(self.field, argument)

    def flag_type(self) -> str:
        return "setting"


def train() -> flags.FlagValues:
    """Returns the flags of `tlkeras train`."""
    values = _plain("config")
    _text(values, "workdir", "directory for the results; empty is a new one "
          "below runs/")
    for name, field in configs.settings().items():
        rule = field.metadata["rule"]
        if field.type is bool:
            flags.DEFINE_bool(name, field.default, rule.help, values)
        else:
            allowed = rule.allowed()
            flags.DEFINE(
                _SettingParser(field),
                name,
                field.default,
                f"{rule.help} ({allowed})" if allowed else rule.help,
                flag_values=values,
                serializer=flags.ArgumentSerializer(),
            )
    return values


def predict() -> flags.FlagValues:
    """Returns the flags of `tlkeras predict`."""
    return _plain("model", "csv")


def evaluate() -> flags.FlagValues:
    """Returns the flags of `tlkeras evaluate`."""
    values = _plain("model", "data", "data_dir", "json")
    flags.DEFINE_enum(
        "split",
        "auto",
        ["auto", "all", "train", "validation", "test"],
        "which images; auto: the test split of the data that the model was "
        "trained on, all of any other",
        flag_values=values,
    )
    return values


def export() -> flags.FlagValues:
    """Returns the flags of `tlkeras export`."""
    values = _plain("model", "output")
    flags.DEFINE_enum(
        "format",
        "saved_model",
        ["saved_model"],
        "what to write",
        flag_values=values,
    )
    return values


def demo() -> flags.FlagValues:
    """Returns the flags of `tlkeras demo`."""
    values = flags.FlagValues()
    _text(values, "workdir", "directory for the results", "runs/demo")
    return values


def nothing() -> flags.FlagValues:
    """Returns no flags."""
    return flags.FlagValues()


def describe(values: flags.FlagValues) -> str:
    """Returns the flags as lines for a help text."""
    lines = []
    for name in values:
        flag = values[name]
        default = flag.default
        if flag.boolean:
            head = f"--{name}" if not default else f"--no{name}"
        else:
            shown = f"{default:g}" if type(default) is float else default
            head = f"--{name}={shown}"
        lines.append((head, flag.help))
    lines.sort(key=lambda line: line[0].replace("--no", "--"))
    return "\n".join(f"  {head}\n      {text}" for head, text in lines)


def _plain(*names: str) -> flags.FlagValues:
    values = flags.FlagValues()
    for name in names:
        _text(values, name, _PLAIN[name])
    return values


def _text(
    values: flags.FlagValues, name: str, text: str, default: str = ""
) -> None:
    flags.DEFINE_string(name, default, text, flag_values=values)
