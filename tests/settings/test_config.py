import dataclasses
import pathlib
import re
import subprocess
import sys

import hypothesis
import numpy as np
import pytest
from conftest import run
from conftest import small
from hypothesis import strategies as st

from tlkeras import errors
from tlkeras import files
from tlkeras import records
from tlkeras.data import augment as augmentation
from tlkeras.settings import config as configs
from tlkeras.settings import setting as setting_rules
from tlkeras.settings import strategies

ROOT = pathlib.Path(__file__).parents[2]
PHASE = {
    "name": "head",
    "unfreeze": "none",
    "epochs": 3,
    "learning_rate": 1e-3,
}


def values_of(setting: setting_rules.Setting) -> st.SearchStrategy:
    """Returns a strategy for all that a setting allows."""
    rule = setting.rule
    if setting.name == "unfreeze":
        return st.sampled_from(["none", "all", "stages:2", "from:conv1"])
    if setting.name == "folds":
        return st.sampled_from([0, 3, 20])
    if setting.name == "budget":
        return st.sampled_from(["auto", "500", "120s", "10e"])
    if setting.name == "threshold":
        return st.sampled_from(["none", "cost:5", "recall:0.95"])
    if rule.choices:
        return st.sampled_from(rule.choices)
    if setting.kinds == (bool,):
        return st.booleans()
    if setting.kinds == (str,):
        return st.text()
    if float in setting.kinds:
        return st.floats(rule.low, rule.high, exclude_min=rule.above)
    # One image a step contradicts BatchNorm in training mode.
    low = 2 if setting.name == "batch_size" else int(rule.low)
    numbers = st.integers(low, int(rule.high))
    return numbers | st.just(rule.word) if rule.word else numbers


def phases() -> st.SearchStrategy:
    return st.lists(
        st.fixed_dictionaries(
            {
                "name": st.text("aZ9_-é", min_size=1),
                "unfreeze": st.sampled_from(["none", "stages:1"]),
                "epochs": st.integers(1, 100),
                "learning_rate": st.floats(1e-9, 10),
            },
            optional={
                "batch_norm": st.sampled_from(["frozen", "training"]),
                "patience": st.integers(1, 9),
            },
        ),
        min_size=1,
        max_size=3,
        unique_by=lambda phase: phase["name"],
    )


# A busy machine is no reason to fail.
@hypothesis.settings(deadline=None)
@hypothesis.given(st.data())
def test_toml_brings_every_configuration_back(data):
    known = dict(configs.settings())
    if data.draw(st.booleans()):
        del known["strategy"]
        known["phases"] = None
    names = data.draw(st.sets(st.sampled_from(sorted(known))))
    values = {
        name: data.draw(
            phases() if name == "phases" else values_of(known[name])
        )
        for name in names
    }
    # Three rules that look at several settings at once.
    values["force_rate"] = True
    if values.get("strategy") == "scratch":
        values["weights"] = "none"
    strategy = strategies.BY_NAME[values.get("strategy", "fine_tuning")]
    solver = {"head_solver": values.get("head_solver"), **strategy.fixed}
    if solver["head_solver"] == "logistic":
        values |= {"head": "linear", "feature_cache": "memory"}
    built = configs.build(values)
    for name in names - {"phases"}:
        assert getattr(built, name) == values[name]
    assert len(built.phases) == len(values.get("phases", ()))
    text = configs.to_toml(built)
    read = configs.tomllib.loads(text)
    assert not {"strategy", "phases"} <= set(read)
    assert configs.build(read) == configs.anywhere(built)


@pytest.mark.parametrize(
    ("name", "value", "plain"),
    [
        ("seed", np.int64(7), 7),
        ("head_epochs", np.uint8(3), 3),
        ("batch_size", np.int32(8), 8),
        ("batch_size", np.str_("auto"), "auto"),
        ("l2", np.float64(0.5), 0.5),
        ("l2", np.float32(0.5), 0.5),
        ("l2", np.int16(1), 1.0),
        ("tensorboard", np.bool_(True), True),
    ],
)
def test_numbers_of_numpy_are_numbers(name, value, plain):
    found = setting_rules.check(configs.settings()[name], value, "")
    assert (type(found), found) == (type(plain), plain)


def test_numbers_of_numpy_are_checked():
    for name, value in (("seed", np.int64(-1)), ("seed", np.float64(0.5))):
        with pytest.raises(errors.UserError, match="`seed` must be"):
            setting_rules.check(configs.settings()[name], value, "")


def test_paths_that_are_not_utf8_come_back_from_a_file(tmp_path):
    data = b"folder:/caf\xe9/\xc3\xa9".decode("utf-8", "surrogateescape")
    built = configs.build({"data": data})
    files.write_text(tmp_path / "config.toml", configs.to_toml(built))
    assert b"/caf\xe9/\xc3\xa9" in (tmp_path / "config.toml").read_bytes()
    assert configs.resolve(tmp_path / "config.toml") == built


def test_a_byte_order_mark_is_no_mistake(tmp_path):
    (tmp_path / "a.toml").write_bytes(b"\xef\xbb\xbfbatch_size = 8\r\n")
    assert configs.resolve(tmp_path / "a.toml").batch_size == 8


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        ({"bach_size": 3}, ["`bach_size`", "Did you mean batch_size?"]),
        ({"train": {"epochs": 3}}, ["`train`", "Known are data, "]),
        ({"batch_size": "3"}, ["`batch_size`", "the word auto", "'3'"]),
        ({"batch_size": 3.0}, ["`batch_size`", "[1, 65536]", "3.0"]),
        ({"batch_size": True}, ["`batch_size`", "True"]),
        ({"batch_size": 0}, ["`batch_size`", "[1, 65536]", "0"]),
        ({"dropout": 1}, ["`dropout`", "[0, 0.95]", "1.0"]),
        ({"dropout": float("nan")}, ["`dropout`", "nan"]),
        ({"learning_rate": 0.0}, ["`learning_rate`", "(0, 10]", "0.0"]),
        ({"tensorboard": 1}, ["`tensorboard`", "true or false", "1"]),
        ({"backbone": 5}, ["`backbone`", "text", "5"]),
        ({"image_size": "big"}, ["`image_size`", "the word auto", "'big'"]),
        ({"resize": "crops"}, ["`resize`", "pad, crop", "mean crop?"]),
        ({"unfreeze": "stages:0"}, ["`unfreeze`", "stages:N", "'stages:0'"]),
        ({"phases": 3}, ["[[phases]]", "3"]),
        ({"phases": []}, ["[[phases]]", "[]"]),
        ({"phases": [3]}, ["phase 1", "table", "3"]),
        ({"phases": [PHASE, PHASE]}, ["phases", "differ", "'head'"]),
        ({"phases": [{"name": "a"}]}, ["phase 1", "lacks `unfreeze`"]),
        ({"phases": [{**PHASE, "name": "../a"}]}, ["`name`", "'../a'"]),
        ({"phases": [{**PHASE, "epoch": 3}]}, ["`epoch`", "mean epochs?"]),
        ({"phases": [{**PHASE, "epochs": 0}]}, ["phase 1", "`epochs`", "0"]),
        ({"phases": [{**PHASE, "unfreeze": "x"}]}, ["phase 1", "'x'"]),
        (
            {"phases": [PHASE], "strategy": "scratch"},
            ["`strategy`", "[[phases]]", "exclude each other"],
        ),
        (
            {"strategy": "scratch", "weights": "/run"},
            ["`strategy` scratch", "'/run'"],
        ),
        ({"finetune_learning_rate": 1e-3}, ["a fifth", "--force_rate"]),
        ({"folds": 2}, ["`folds`", "[3, 20]", "2"]),
    ],
)
def test_a_mistake_is_told_in_one_line_with_its_place(values, parts):
    with pytest.raises(errors.UserError) as caught:
        configs.build(values)
    message = str(caught.value)
    assert "\n" not in message
    assert [part for part in parts if part not in message] == []


def test_a_message_names_the_file(tmp_path):
    (tmp_path / "a.toml").write_text("batch_size = 0")
    with pytest.raises(errors.UserError, match=r"a\.toml: `batch_size`"):
        configs.resolve(tmp_path / "a.toml")


def test_a_whole_number_will_do_where_a_fraction_is_wanted():
    assert configs.build({"l2": 1}) == configs.build({"l2": 1.0})


def test_a_path_of_python_is_text(tmp_path):
    assert configs.build({"weights": tmp_path}).weights == str(tmp_path)


@pytest.mark.parametrize("head", [1e-3, 3e-3, 7e-3, 0.1, 3e-5])
def test_a_fifth_of_the_heads_rate_is_the_highest(head):
    # 3e-3 / 5 is below 6e-4 in binary numbers, and all the same a fifth.
    fifth = float(f"{head / 5:.6g}")
    rates = {"head_learning_rate": head}
    configs.build({**rates, "finetune_learning_rate": fifth})
    above = {**rates, "finetune_learning_rate": 1.001 * fifth}
    configs.build({**above, "force_rate": True})
    configs.build({**above, "strategy": "feature_extraction"})
    with pytest.raises(errors.UserError, match="a fifth"):
        configs.build(above)


@pytest.mark.parametrize(
    ("text", "given", "expected"),
    [
        ("", {}, "auto"),
        ("batch_size = 8", {}, 8),
        ("batch_size = 8", {"batch_size": 4}, 4),
        # The flag wins where it says what would be the default.
        ("batch_size = 8", {"batch_size": 32}, 32),
    ],
)
def test_default_then_file_then_flag(tmp_path, text, given, expected):
    (tmp_path / "a.toml").write_text(text)
    assert configs.resolve(tmp_path / "a.toml", given).batch_size == expected


def test_strategy_and_phases_overrule_each_other(tmp_path):
    phases, strategy = tmp_path / "phases.toml", tmp_path / "strategy.toml"
    phases.write_text(configs.to_toml(configs.build({"phases": [PHASE]})))
    strategy.write_text('strategy = "scratch"')
    named = configs.resolve(phases, {"strategy": "fine_tuning"})
    assert named.strategy_phases().name == "fine_tuning"
    listed = configs.resolve(strategy, {"phases": [PHASE]})
    assert listed.strategy_phases().planned == (records.Phase(**PHASE),)


def test_a_flag_may_mend_what_a_file_lacks(tmp_path):
    file = tmp_path / "a.toml"
    file.write_text("finetune_learning_rate = 1e-3")
    with pytest.raises(errors.UserError, match="a fifth"):
        configs.resolve(file)
    assert configs.resolve(file, {"force_rate": True}).force_rate
    assert configs.resolve(file, {"head_learning_rate": 1e-2})


class Recording(configs.Config):
    """A configuration that knows which of its settings a run has read."""

    read: set[str] = set()

    def __getattribute__(self, name: str) -> object:
        code = sys._getframe(1).f_code
        # These go over all settings, whatever they are for.
        everything = {"to_toml", "anywhere", "_claim", "replace", "__eq__"}
        if code.co_name not in everything:
            Recording.read.add(name)
        return super().__getattribute__(name)


def test_every_setting_is_read_by_a_run(photos, tmp_path, no_training):
    Recording.read.clear()
    built = small(data=f"folder:{photos}", strategy="fine_tuning")
    run(Recording(**vars(built)), tmp_path / "run")
    known = {*configs.settings(), "phases"}
    by_phases = {name for name in known if strategies.readers(name)}
    assert known - Recording.read <= by_phases


# A value of each setting that a phase may read, other than all below.
CHANGED = {
    "head_epochs": 7,
    "head_learning_rate": 0.05,
    "unfreeze": "stages:1",
    "finetune_epochs": 7,
    "finetune_learning_rate": 2e-5,
    "epochs": 7,
    "learning_rate": 0.05,
    "warmup": 0.5,
    "patience": 7,
}


@dataclasses.dataclass(frozen=True)
class Everything:
    """A decision that lets all follow that may."""

    steps: tuple[str, ...] = strategies.BY_NAME["auto"].options
    epochs: int = 5


def training(config: configs.Config) -> tuple[records.Phase, ...]:
    """Returns the phases that a run may take."""
    strategy = config.strategy_phases()
    phases: tuple[records.Phase, ...] = ()
    while phase := strategy.next_phase(Everything(), phases):
        phases += (phase,)
    return phases


def essence(config: configs.Config) -> tuple[records.Phase, ...]:
    """Returns the phases without what training them does not read."""
    unread = {"epochs": 0, "learning_rate": 0.0, "warmup": 0.0, "patience": 0}
    return tuple(
        dataclasses.replace(phase, **unread)
        if phase.solver != "adam"
        else dataclasses.replace(phase, warmup=0.0)
        if phase.schedule == "constant"
        else dataclasses.replace(phase, patience=0)
        for phase in training(config)
    )


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
@pytest.mark.parametrize("head", ["linear", "mlp"])
@pytest.mark.parametrize("solver", ["auto", "adam", "logistic"])
@pytest.mark.parametrize("strategy", strategies.NAMES)
def test_what_a_path_does_not_read_is_said(strategy, solver, head, schedule):
    """Changes each setting and sees whether the training becomes another."""
    values = {
        "strategy": strategy,
        "head": head,
        "head_solver": solver,
        "schedule": schedule,
        "force_rate": True,
    }
    try:
        built = small(**values)
    except errors.UserError:
        pytest.skip("these settings contradict each other")
    for name, value in CHANGED.items():
        other = dataclasses.replace(built, **{name: value})
        reads = essence(other) != essence(built)
        assert bool(configs.unused(other, [name])) != reads, name
    for name, choices in (
        ("head_solver", ("adam", "logistic")),
        ("schedule", ("constant", "cosine")),
    ):
        one, other = (
            training(dataclasses.replace(built, **{name: choice}))
            for choice in choices
        )
        reads = one != other
        assert bool(configs.unused(built, [name])) != reads, name
    # Adam alone draws dropout, and starts the head somewhere.
    adam = any(phase.solver == "adam" for phase in essence(built))
    for name in ("dropout", "head_initializer"):
        assert bool(configs.unused(built, [name])) != adam
    assert bool(configs.unused(built, ["head_units"])) == (head == "linear")
    frozen = any(
        phase.unfreeze != "all" or phase.batch_norm == "frozen"
        for phase in essence(built)
    )
    assert bool(configs.unused(built, ["feature_cache"])) != frozen
    always = {
        *("backbone", "image_size", "resize", "batch_size", "strategy", "seed"),
        *("l2", "head", "class_weights", "augment", "precision", "split_seed"),
    }
    assert configs.unused(built, always) == []


@pytest.mark.parametrize("augment", ["none", "flip", "light", "strong"])
@pytest.mark.parametrize("cache", ["auto", "off", "memory", "disk"])
def test_what_the_feature_cache_does_not_read_is_said(augment, cache):
    built = small(strategy="fine_tuning", augment=augment, feature_cache=cache)
    views = [augmentation.views(augment, seed=0, most=most) for most in (2, 3)]
    drawn = views[0] != views[1] and cache != "off"
    assert bool(configs.unused(built, ["cached_views"])) != drawn
    for name, modes in (
        ("feature_memory_gb", ("auto", "memory", "disk")),
        ("feature_cache_gb", ("auto", "disk")),
    ):
        assert bool(configs.unused(built, [name])) != (cache in modes)


def test_settings_of_strategies_are_not_read_by_phases_of_ones_own():
    phases = configs.build({"phases": [PHASE]})
    assert len(configs.unused(phases, CHANGED)) == len(CHANGED)


@pytest.mark.parametrize(
    "text",
    [
        "x = " + "[" * 5000 + "]" * 5000,
        "x = " + "9" * 5001,
        "dropout = 0x" + "f" * 5001,
        "batch_size = 0x" + "f" * 5001,
        "backbone = '" + "x" * 5001 + "'\nseed = 'x'",
    ],
)
def test_what_overwhelms_a_parser_is_one_short_line(tmp_path, text):
    (tmp_path / "some.toml").write_text(text)
    with pytest.raises(errors.UserError) as caught:
        configs.resolve(tmp_path / "some.toml")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_recipes_are_found_by_name_even_beside_a_folder_of_that_name(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flowers").mkdir()
    assert configs.resolve("flowers").data == "tfds:tf_flowers"
    with pytest.raises(errors.UserError, match="Did you mean flowers?"):
        configs.read("flower")
    with pytest.raises(errors.UserError, match="a directory"):
        configs.read(tmp_path)
    (tmp_path / "flowers").rmdir()
    (tmp_path / "flowers").write_text("no TOML")
    with pytest.raises(errors.UserError, match="must be a TOML file"):
        configs.read("flowers")


def test_an_installed_wheel_has_recipes_page_and_type_marker(tmp_path):
    pytest.importorskip("setuptools")
    source = tmp_path / "source"
    source.mkdir()
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        (source / name).write_bytes((ROOT / name).read_bytes())
    for folder in ("tlkeras", "configs"):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and path.suffix != ".pyc":
                copy = source / path.relative_to(ROOT)
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(path.read_bytes())
    pip = [sys.executable, "-m", "pip", "--quiet", "install", "--no-deps"]
    place = tmp_path / "place"
    subprocess.run(
        [*pip, "--no-build-isolation", f"--target={place}", source], check=True
    )
    assert (place / "tlkeras" / "py.typed").is_file()
    assert (place / "tlkeras" / "report" / "page.html").is_file()
    program = (
        "from tlkeras.settings import config; print(config.__file__); "
        "print(*config.recipes(), config.resolve('digits').backbone)"
    )
    found = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={"PYTHONPATH": str(place)},
        capture_output=True,
        text=True,
        check=True,
    )
    file, recipes = found.stdout.splitlines()
    assert file.startswith(str(place))
    assert recipes == "cats_vs_dogs digits flowers gradual SmallResNet"


@pytest.mark.parametrize(
    "settings, word",
    [
        ({"head": "mlp"}, "`head` must be linear. Received: 'mlp'"),
        ({"feature_cache": "off"}, "must be auto or memory or disk"),
        (
            {
                "phases": [
                    {
                        "name": "a",
                        "unfreeze": "all",
                        "epochs": 1,
                        "learning_rate": 0.1,
                        "solver": "logistic",
                    }
                ]
            },
            "phase a is solved by logistic, so `unfreeze` must be none",
        ),
    ],
)
def test_what_a_solver_needs(settings, word):
    if "phases" not in settings:
        settings = {**settings, "head_solver": "logistic"}
    with pytest.raises(errors.UserError, match=re.escape(word)):
        configs.build(settings)


@pytest.mark.parametrize(
    "value", ["none", "all", "stages:1", "stages:12", "from:block_3/add"]
)
def test_what_of_a_base_learns(value):
    assert configs.build({"unfreeze": value}).unfreeze == value


@pytest.mark.parametrize(
    "value",
    ["", "None", "stages", "stages:0", "stages:-1", "stages:1.5", "from:"],
)
def test_what_no_base_has_is_refused(value):
    with pytest.raises(errors.UserError, match="`unfreeze` must be none, all"):
        configs.build({"unfreeze": value})


@pytest.mark.parametrize(
    "settings",
    [
        {"strategy": "scratch"},
        {"strategy": "pretrained_init"},
        {"phases": [{**PHASE, "batch_norm": "training"}]},
    ],
)
def test_one_image_a_step_and_batchnorm_in_training_mode_are_refused(settings):
    with pytest.raises(errors.UserError, match="`batch_size` must be at least"):
        configs.build({**settings, "batch_size": 1})
    configs.build({**settings, "batch_size": 2})
    configs.build({"strategy": "fine_tuning", "batch_size": 1})
