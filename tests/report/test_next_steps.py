"""What a run's report says to try next: a case for each rule."""

import copy

import pytest

from tlkeras.report import next_steps
from tlkeras.settings import config as configs

PATH = "runs/a b/config.toml"
AGAIN = "tlkeras train --config='runs/a b/config.toml'"


def phase(name="finetune", **changes):
    return {
        "name": name,
        "unfreeze": "all",
        "epochs": 10,
        "best_epoch": 7,
        "stopped": "budget",
        "learning_rate": 1e-4,
        "training_accuracy": 0.95,
        "validation_accuracy": 0.93,
        "rolled_back": False,
    } | changes


def accuracy(n):
    return {
        "accuracy": {
            "value": 0.93,
            "low": 0.9,
            "high": 0.95,
            "n": n,
            "groups": n,
        },
        "confused": [
            {"true_label": one, "label": other, "n": 4}
            for one, other in ("ab", "bc", "ca", "da")
        ],
    }


# A run of which nothing is to be said.
REPORT = {
    "strategy": "fine_tuning_high",
    "image_size": 224,
    "test": accuracy(300),
    "validation": accuracy(300),
    "phases": [phase("head", unfreeze="none"), phase()],
    "folds": None,
    "advice": None,
    "data": {
        "classes": ["a", "b", "c", "d"],
        "images": {
            split: dict.fromkeys("abcd", images)
            for split, images in (
                ("train", 350),
                ("validation", 75),
                ("test", 75),
            )
        },
        "side": 256.0,
        "given_splits": False,
        "doubtful_labels": 0,
    },
}
CONFIG = {
    "data": "folder:some photos",
    "strategy": "fine_tuning_high",
    "backbone": "EfficientNetB0",
}


def asked(change=lambda report: None, **settings):
    report = copy.deepcopy(REPORT)
    change(report)
    config = configs.build({**CONFIG, **settings})
    return {
        step["rule"]: step for step in next_steps.find(report, config, PATH)
    }


def data(**changes):
    return lambda report: report["data"].update(changes)


def top(**changes):
    return lambda report: report.update(changes)


def last(**changes):
    return lambda report: report["phases"][-1].update(changes)


def few(report):
    report["data"]["images"]["train"]["c"] = 100


def pair(report):
    report["test"]["confused"].append(
        {"true_label": "b", "label": "a", "n": 11}
    )


def few_chose(report):
    report["validation"] = accuracy(40)


def few_known(report):
    report["data"]["images"]["train"] = dict.fromkeys("abcd", 30)


# Rule: what is changed, other settings, a word of the reason, the command.
CASES = {
    "unfinished": (
        last(stopped="callback"),
        {},
        "callback stopped phase finetune",
        AGAIN,
    ),
    "diverged": (
        last(stopped="diverged", rolled_back=True),
        {},
        "no longer finite",
        f"{AGAIN} --finetune_learning_rate=1e-05",
    ),
    "doubtful_labels": (
        data(doubtful_labels=3),
        {},
        "3 labels may be",
        "tlkeras check --data='folder:some photos' --labels "
        "--backbone=EfficientNetB0",
    ),
    "few_to_choose": (
        few_chose,
        {},
        "40 validation images",
        f"{AGAIN} --folds=5",
    ),
    "few_of_class": (
        few,
        {},
        "Class 'c' has 100 training images",
        f"{AGAIN} --class_weights=balanced",
    ),
    "still_improving": (
        last(best_epoch=10),
        {},
        "last epoch, 10",
        f"{AGAIN} --finetune_epochs=20",
    ),
    "fit": (
        last(training_accuracy=0.99, validation_accuracy=0.8),
        {},
        "Overfitting: 99.0 % on training",
        f"{AGAIN} --augment=light",
    ),
    "confused_pair": (
        pair,
        {},
        "'a' and 'b' taken for each other are 15 of 27",
        "tlkeras check --data='folder:some photos'",
    ),
    "small_pictures": (
        data(side=60.0),
        {},
        "images are 60 pixels",
        f"{AGAIN} --image_size=64",
    ),
    "strategy": (
        top(strategy="fine_tuning"),
        {},
        "2.4",
        f"{AGAIN} --strategy=auto",
    ),
    "held_back": (
        few_known,
        {},
        "1 to 2 points",
        f"{AGAIN} --final_fit=train_and_validation",
    ),
    "more_pixels": (
        top(image_size=96),
        {},
        "5.4 times",
        f"{AGAIN} --image_size=224",
    ),
    "network": (
        top(),
        {"backbone": "MobileNetV2-0.35"},
        "MobileNetV2 has 2.3",
        f"{AGAIN} --backbone=MobileNetV2 --weights=imagenet",
    ),
}


def test_a_run_without_a_fault_is_told_nothing():
    assert asked() == {}


def test_each_rule_has_a_case():
    assert list(CASES) == [rule.name for rule in next_steps.RULES]


@pytest.mark.parametrize("rule", CASES)
def test_a_rule_has_its_reason_and_its_command(rule):
    change, settings, reason, command = CASES[rule]
    assert list(asked(change, **settings)) == [rule]
    step = asked(change, **settings)[rule]
    assert reason in step["reason"]
    assert step["command"] == command


def test_underfitting_takes_longer():
    change = last(training_accuracy=0.6, validation_accuracy=0.6)
    step = asked(change)["fit"]
    assert step["reason"].startswith("Underfitting: 60.0 %")
    assert step["command"] == f"{AGAIN} --finetune_epochs=20"


def test_given_splits_are_not_folded():
    def change(report):
        few_chose(report)
        report["data"]["given_splits"] = True

    step = asked(change)["few_to_choose"]
    assert step["command"].startswith("tlkeras check ")


def test_own_phases_have_no_flags_of_a_strategy():
    own = {"name": "top", "unfreeze": "all", "epochs": 5, "learning_rate": 1e-4}

    def change(report):
        report |= {"strategy": "phases"}
        report["phases"] = [phase("top", epochs=5, best_epoch=5)]

    report = copy.deepcopy(REPORT)
    change(report)
    config = configs.build(
        {"data": "folder:x", "backbone": "EfficientNetB0", "phases": [own]}
    )
    (step,) = next_steps.find(report, config, PATH)
    assert step["rule"] == "still_improving"
    assert "config.toml" in step["reason"]
    assert step["command"] == AGAIN


def test_what_auto_found_close_is_compared():
    step = asked(
        top(strategy="auto", advice={"close": ["last_stage_high"]}),
        strategy="auto",
    )["strategy"]
    assert step["command"] == (
        "tlkeras compare --config='runs/a b/config.toml' "
        "--strategies=auto,last_stage_high"
    )


def test_at_most_five_are_shown_and_none_twice():
    def change(report):
        for each, *_ in CASES.values():
            each(report)

    steps = asked(change, backbone="MobileNetV2-0.35")
    assert len(steps) == next_steps.MOST
    assert len({step["command"] for step in steps.values()}) == len(steps)
    assert "diverged" in steps
