"""The flags of each command; those of `train` come from the settings."""

import textwrap

from absl import flags

from tlkeras import config as configs
from tlkeras import rules
from tlkeras import ways


def _text(name: str, help: str, default: str = "") -> rules.Setting:
    return rules.Setting(name, (str,), default, rules.Rule(help))


def _word(name: str, help: str, choices: tuple[str, ...]) -> rules.Setting:
    rule = rules.Rule(help, choices=choices)
    return rules.Setting(name, (str,), choices[0], rule)


MAX_IMAGES = rules.Setting(
    "max_images",
    (int,),
    1000,
    rules.Rule("training images to look at", low=2, high=1_000_000),
)
_DATA = configs.settings()["data"]
_DATA_DIR = configs.settings()["data_dir"]
_CACHE_DIR = configs.settings()["cache_dir"]
# What `tlkeras compare` has beside the settings of a run.
COMPARISON = {
    setting.name: setting
    for setting in (
        _text(
            "strategies",
            f"the ways to compare, with commas: {', '.join(ways.NAMES)}; or "
            "all",
            "all",
        ),
        rules.Setting(
            "seeds",
            (int,),
            3,
            rules.Rule(
                "trainings of each way, from --seed on", low=1, high=100
            ),
        ),
        _text(
            "budget",
            "what each way may use: steps (500), seconds of training (120s), "
            "or auto, Big Transfer's 500 steps below 20,000 images and 10,000 "
            "above",
            "auto",
        ),
        _word(
            "drop",
            "clear leaves a way after a seed on whose validation images it is "
            "worse than the best (McNemar's test, p < 0.01)",
            ("none", "clear"),
        ),
    )
}
# The settings of training that advice reads.
ADVISE = (
    "data",
    "data_dir",
    "backbone",
    "weights",
    "image_size",
    "resize",
    "images_per_class",
    "max_pixels",
    "cache_dir",
    "seed",
    "split_seed",
)
_MODEL = _text("model", "the directory of a run, or a model.keras")
_CSV = _text("csv", "a CSV file to write, with all probabilities")


def train() -> flags.FlagValues:
    """Returns the flags of `tlkeras train`."""
    return _flags(
        _text(
            "config",
            "a TOML file of settings, or the name of a recipe; flags overrule "
            "it",
        ),
        _text(
            "workdir",
            "directory for the results; empty is a new one below runs/",
        ),
        *configs.settings().values(),
    )


def compare() -> flags.FlagValues:
    """Returns the flags of `tlkeras compare`."""
    shared = [
        setting
        for name, setting in configs.settings().items()
        if name not in (*ways.DECIDED, *ways.ONE_PROCESS)
    ]
    return _flags(
        _text(
            "config",
            "a TOML file of settings, or the name of a recipe; flags overrule "
            "it",
        ),
        _text(
            "workdir",
            "directory for the results; empty is a new one below runs/",
        ),
        *COMPARISON.values(),
        *shared,
    )


def evaluate() -> flags.FlagValues:
    """Returns the flags of `tlkeras evaluate`."""
    return _flags(
        _MODEL,
        _DATA,
        _DATA_DIR,
        _word(
            "split",
            "which images; auto: the test split of the data that the model was "
            "trained on, of any other all that it has not seen",
            ("auto", "all", "train", "validation", "test"),
        ),
        _CACHE_DIR,
        _CSV,
        _text("json", "a JSON file to write, with the metrics"),
    )


def predict() -> flags.FlagValues:
    """Returns the flags of `tlkeras predict`."""
    return _flags(_MODEL, _CSV)


def export() -> flags.FlagValues:
    """Returns the flags of `tlkeras export`."""
    return _flags(
        _MODEL,
        _text("output", "a new directory to write to"),
        _word("format", "what to write", ("saved_model",)),
    )


def check() -> flags.FlagValues:
    """Returns the flags of `tlkeras check`."""
    settings = configs.settings()
    return _flags(
        _DATA,
        _DATA_DIR,
        settings["backbone"],
        settings["image_size"],
        settings["max_pixels"],
        _CACHE_DIR,
        _text("html", "a page to write; empty is a new file below runs/"),
        _text("json", "a JSON file to write, with all that was found"),
        _text(
            "fix", "a CSV source to write, without the images that are doubtful"
        ),
    )


def advise() -> flags.FlagValues:
    """Returns the flags of `tlkeras advise`."""
    settings = configs.settings()
    only = rules.Setting(
        "evidence_only",
        (bool,),
        False,
        rules.Rule("print what was measured, without the textbook's word"),
    )
    return _flags(
        *(settings[name] for name in ADVISE),
        MAX_IMAGES,
        only,
        _text("json", "a JSON file to write, with all that was found"),
    )


def cache() -> flags.FlagValues:
    """Returns the flags of `tlkeras cache`."""
    clear = rules.Setting(
        "clear", (bool,), False, rules.Rule("remove all that is kept")
    )
    return _flags(_CACHE_DIR, clear)


def demo() -> flags.FlagValues:
    """Returns the flags of `tlkeras demo`."""
    return _flags(
        _text("workdir", "directory for the results", "runs/demo"),
    )


def nothing() -> flags.FlagValues:
    """Returns no flags."""
    return _flags()


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

    def __init__(self, setting: rules.Setting):
        super().__init__()
        self.setting = setting

    def parse(self, argument):
        # absl hands the default to the parser, too.
        if not isinstance(argument, str):
            return argument
        return rules.parse(self.setting, argument)

    def flag_type(self) -> str:
        return "setting"


def _flags(*settings: rules.Setting) -> flags.FlagValues:
    values = flags.FlagValues()
    for setting in settings:
        allowed = rules.allowed(setting.rule)
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
