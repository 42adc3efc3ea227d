"""What a setting may be: the rules, and one clear line where one is broken."""

import dataclasses
import math
import os
import re
import types
from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any

import numpy as np

from tlkeras import errors


@dataclasses.dataclass(frozen=True)
class Rule:
    """What a setting means and allows.

    choices: the words allowed; none of them means any text.
    low, high: the smallest and the largest number allowed, both or neither.
    above: whether the number must be above `low`, not equal to it.
    word: a word allowed in the place of a number.
    pattern, form: what a text must match as a whole, and that in words.
    place: whether it says where a run is computed and not what it is; a run's
      config.toml leaves it out, so that it runs again elsewhere.
    """

    help: str = ""
    choices: tuple[str, ...] = ()
    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    word: str = ""
    pattern: str = ""
    form: str = ""
    place: bool = False


@dataclasses.dataclass(frozen=True)
class Setting:
    """One name that a person may give a value to.

    kinds: the types that the value may have.
    """

    name: str
    kinds: tuple[type, ...]
    default: Any
    rule: Rule


def parse(setting: Setting, text: str) -> Any:
    """Returns the checked value that the words of a flag stand for.

    Raises `UserError` where the setting does not allow it.
    """
    value: Any = text
    if setting.kinds == (bool,):
        value = {"true": True, "false": False}.get(text.lower(), text)
    elif setting.kinds != (str,) and text != setting.rule.word:
        number = float if float in setting.kinds else int
        try:
            value = number(text)
        except ValueError:
            raise errors.UserError(_wrong(setting, text, "")) from None
    return check(setting, value, "")


def allowed(rule: Rule) -> str:
    """Returns in words what a setting allows, '' where any text is."""
    if rule.choices:
        return "one of " + ", ".join(rule.choices)
    if rule.form:
        return rule.form
    text = ""
    if rule.low > -math.inf:
        left = "(" if rule.above else "["
        text = f"in {left}{rule.low:g}, {rule.high:.10g}]"
    return f"{text}, or the word {rule.word}" if rule.word else text


def of(record: type, rules: Mapping[str, Rule]) -> dict[str, Setting]:
    """Returns the settings that fields of a dataclass are, by name."""
    return {
        field.name: Setting(
            field.name,
            field.type.__args__
            if isinstance(field.type, types.UnionType)
            else (field.type,),
            field.default,
            rules[field.name],
        )
        for field in dataclasses.fields(record)
        if field.name in rules
    }


def where(origin: str) -> str:
    """Returns how a message begins on values that stand in `origin`."""
    return f"{origin}: " if origin else ""


def check(setting: Setting, value: Any, origin: str) -> Any:
    """Returns `value` in the setting's type.

    Raises `UserError` where the setting does not allow it.
    """
    rule = setting.rule
    kinds = setting.kinds
    if isinstance(value, np.generic):
        value = value.item()
    if rule.word:
        if value == rule.word:
            return value
        kinds = tuple(kind for kind in kinds if kind is not str)
    if kinds == (str,) and isinstance(value, os.PathLike):
        value = os.fspath(value)
    if float in kinds and type(value) is int:
        # Beyond a float's range it is out of that of every setting, too.
        value = float(value) if abs(value) < 1e300 else math.inf
    if type(value) not in kinds:
        raise errors.UserError(_wrong(setting, value, origin))
    if rule.choices and value not in rule.choices:
        close = errors.nearest(value, rule.choices)
        raise errors.UserError(_wrong(setting, value, origin) + close)
    if type(value) in (int, float):
        too_low = value <= rule.low if rule.above else value < rule.low
        if too_low or value > rule.high or not math.isfinite(value):
            raise errors.UserError(_wrong(setting, value, origin))
    if rule.pattern and not re.fullmatch(rule.pattern, value):
        raise errors.UserError(_wrong(setting, value, origin))
    return value


def _wrong(setting: Setting, value: object, origin: str) -> str:
    kind = {str: "text", bool: "true or false", int: "a whole number"}.get(
        setting.kinds[0], "a number"
    )
    if setting.rule.choices or setting.rule.form:
        kind = ""
    words = [kind, allowed(setting.rule)]
    return (
        f"{where(origin)}`{setting.name}` must be "
        f"{', '.join(word for word in words if word)}. Received: "
        f"{errors.shown(value)}."
    )


def unknown(name: str, names: Iterable[str], origin: str) -> str:
    """Returns what to say of a setting that is none of `names`."""
    return (
        f"{where(origin)}unknown setting `{name}`."
        f"{errors.nearest(name, names)} Known are {', '.join(names)}."
    )
