"""The settings of each command, beside those of a run."""

from tlkeras.settings import config as configs
from tlkeras.settings import strategies
from tlkeras.settings.setting import Rule
from tlkeras.settings.setting import Setting


def _text(name: str, help: str, default: str = "") -> Setting:
    return Setting(name, (str,), default, Rule(help))


def _word(name: str, help: str, choices: tuple[str, ...]) -> Setting:
    return Setting(name, (str,), choices[0], Rule(help, choices=choices))


def _number(name: str, help: str, default: int, low: int, high: int) -> Setting:
    return Setting(name, (int,), default, Rule(help, low=low, high=high))


def _switch(name: str, help: str) -> Setting:
    return Setting(name, (bool,), False, Rule(help))


def _run(*names: str) -> tuple[Setting, ...]:
    """Returns settings of a run that another command has, too."""
    return tuple(configs.settings()[name] for name in names)


# Settings that the candidates, the seeds and the budget of a comparison decide.
DECIDED = (
    "strategy",
    "unfreeze",
    "head_epochs",
    "finetune_epochs",
    "epochs",
    "budget",
)
# Several processes cannot share the trainings of a comparison yet.
ONE_PROCESS = ("coordinator", "num_processes", "process_id")
# All candidates of a comparison share one split.
ONE_SPLIT = ("folds",)

# Of the command line alone; in Python nothing is left to be asked.
DRY_RUN = _switch(
    "dry_run",
    "print what would be done, read, computed and kept, and about how long it "
    "takes here, and stop",
)
# What every command has.
COMMON = (
    _switch("quiet", "print the result alone"),
    _switch(
        "verbose",
        "print more: settings and versions, each epoch of each training, "
        "TensorFlow's own messages",
    ),
)

_CONFIG = _text(
    "config",
    "a TOML file of settings, or the name of a recipe; flags overrule it",
)
_WORKDIR = _text(
    "workdir", "directory for the results; empty is a new one below runs/"
)
_MODEL = _text("model", "the directory of a run, or a model.keras")
_CSV = (
    _text("csv", "a CSV file to write, with the probabilities"),
    _word(
        "probabilities",
        "which of them; auto: those of all classes, but of more than 100 the "
        "five highest",
        ("auto", "all"),
    ),
)

_COVERAGE = Setting(
    "coverage",
    (float,),
    0.0,
    Rule(
        "how often a set of labels is to hold the true one, as 0.95: gives the "
        "set of each image; 0 gives none",
        low=0.0,
        high=0.999,
    ),
)

_TTA = _word(
    "tta",
    "what answers are averaged over: an image and its mirror image (flip), "
    "or nothing (none); model is as it was trained",
    ("model", "none", "flip"),
)

# Within how many points of accuracy a strategy is as good as another.
MARGIN = Setting(
    "margin",
    (float,),
    1.0,
    Rule(
        "points of accuracy: a strategy is called as good as the best only "
        "where a test rules out that it is worse by so many or more",
        low=0.0,
        above=True,
        high=100.0,
    ),
)

# What a comparison has beside the settings of a run.
COMPARISON = (
    _text(
        "strategies",
        "the strategies to compare, with commas: "
        f"{', '.join(strategies.NAMES)}; or all",
        "all",
    ),
    _number("seeds", "trainings of each strategy, from --seed on", 3, 1, 100),
    _text(
        "budget",
        "what each strategy may use: steps (500), seconds of training (120s), "
        "or auto, Big Transfer's 500 steps below 20,000 images and 10,000 "
        "above",
        "auto",
    ),
    _word(
        "drop",
        "clear leaves a strategy after a seed on whose validation images it is "
        "worse than the best (McNemar's test, p < 0.01)",
        ("none", "clear"),
    ),
    MARGIN,
)
MAX_IMAGES = _number(
    "max_images", "training images to look at", 1000, 2, 1_000_000
)

TRAIN = (_CONFIG, _WORKDIR, *configs.settings().values())
COMPARE = (
    _CONFIG,
    _WORKDIR,
    *COMPARISON,
    *(
        setting
        for name, setting in configs.settings().items()
        if name not in (*DECIDED, *ONE_PROCESS, *ONE_SPLIT)
    ),
)
# The settings of a run that advice reads.
ADVISE_READS = (
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
    "batch_size",
    "budget",
)
ADVISE = (
    *_run(*ADVISE_READS),
    MAX_IMAGES,
    _switch(
        "evidence_only", "print what was measured, without what follows from it"
    ),
    _text("json", "a JSON file to write, with all that was found"),
)
EVALUATE = (
    _MODEL,
    *_run("data", "data_dir"),
    _word(
        "split",
        "which images; auto: the test split of the data that the model was "
        "trained on, of any other all that it has not seen",
        ("auto", "all", "train", "validation", "test"),
    ),
    *_run("cache_dir"),
    _TTA,
    _COVERAGE,
    *_run("slices"),
    _number(
        "top_k",
        "also says how often the true class is among so many of the most "
        "probable; 0 does not",
        0,
        0,
        1000,
    ),
    *_CSV,
    _text("json", "a JSON file to write, with the metrics"),
)
PREDICT = (
    _MODEL,
    _TTA,
    _COVERAGE,
    *_CSV,
    _number("top", "how many of the most probable classes to show", 1, 1, 1000),
    _text(
        "sort_into",
        "a new directory for copies of the images, in a folder for each label",
    ),
)
EXPLAIN = (
    _MODEL,
    _text("output", "a new directory for the maps and a page of them"),
    _text(
        "label",
        "the class to explain; empty is the one predicted",
    ),
)
CHECK = (
    *_run(
        "data",
        "data_dir",
        "backbone",
        "weights",
        "image_size",
        "max_pixels",
        "cache_dir",
    ),
    _switch(
        "labels",
        "rank the images whose label is contradicted by all others, on a page "
        "and in a table to mark; this computes features by --backbone",
    ),
    _text("marked", "a table of --labels with marks, which --fix leaves out"),
    _text("html", "a page to write; empty is a new file below runs/"),
    _text("json", "a JSON file to write, with all that was found"),
    _text("fix", "a CSV source to write, without the images that are doubtful"),
)
CACHE = (*_run("cache_dir"), _switch("clear", "remove all that is kept"))
RUNS = (
    _word(
        "sort",
        "order of the list",
        ("when", "accuracy", "seconds", "data", "network", "strategy"),
    ),
)
BACKBONES = (
    _word(
        "for",
        "what to choose a network for: lists those than which no other is both "
        "cheaper and as accurate, and then the others",
        ("any", "cpu", "gpu", "phone"),
    ),
    _text(
        "measure",
        "networks whose images/s are measured on this machine, with commas, "
        "or all; random weights, batches of 16",
    ),
)
DEMO = (_text("workdir", "directory for the results", "runs/demo"),)
EXPORT = (
    _MODEL,
    _TTA,
    _text("output", "a new directory to write to"),
    _text(
        "format",
        "what to write, with commas: saved_model, litert, litert_int8, onnx, "
        "openvino; several get a folder each",
        "saved_model",
    ),
    _text(
        "data",
        "labelled images to prove it on; empty takes the test images of the "
        "run",
    ),
    *_run("data_dir"),
    _text(
        "calibration",
        "images for the ranges of litert_int8, as a source of images; empty "
        "takes the training images of the run",
    ),
    _number("max_images", "images to prove it on, at most", 1000, 1, 1_000_000),
    Setting(
        "max_changed",
        (float,),
        0.05,
        Rule(
            "a file that answers a larger share of the images otherwise than "
            "the model is refused",
            low=0.0,
            high=1.0,
        ),
    ),
    *_run("cache_dir"),
)
SERVE = (
    _MODEL,
    _text(
        "host",
        "address to listen on; 127.0.0.1 is this machine alone, 0.0.0.0 all "
        "that can reach it",
        "127.0.0.1",
    ),
    _number("port", "port to listen on; 0 is any that is free", 8000, 0, 65535),
    _number("max_mb", "largest file that is taken, in MB", 20, 1, 1000),
    _number("timeout", "seconds that a request may take to come", 10, 1, 3600),
)
