"""First values of variables by NumPy, as Keras' initialisers ask for them."""

from collections.abc import Callable
from typing import Any

import numpy as np


def _uniform(rng: Any, shape: Any, low: float, high: float) -> np.ndarray:
    width = np.float32(high) - np.float32(low)
    return rng.random(shape, np.float32) * width + np.float32(low)


def _normal(rng: Any, shape: Any, mean: float, spread: float) -> np.ndarray:
    drawn = rng.standard_normal(shape, np.float32)
    return drawn * np.float32(spread) + np.float32(mean)


def _truncated_normal(
    rng: Any, shape: Any, mean: float, spread: float
) -> np.ndarray:
    """Returns normal numbers; those beyond two deviations are drawn again."""
    drawn = rng.standard_normal(shape, np.float32)
    while (beyond := np.abs(drawn) > 2).any():
        drawn[beyond] = rng.standard_normal(int(beyond.sum()), np.float32)
    return drawn * np.float32(spread) + np.float32(mean)


# Keras' name -> (generator, shape, two bounds in Keras' order) -> float32.
DRAWS = {
    "uniform": _uniform,
    "normal": _normal,
    "truncated_normal": _truncated_normal,
}


def by_numpy(name: str, theirs: Callable) -> Callable:
    """Returns what does as Keras' function of this name, but by NumPy.

    name: in `DRAWS`, or `zeros` or `ones`. Other types than float32, and what
    has no seed that is a whole number, are left to `theirs`.
    """

    def constant(shape: Any, dtype: Any = None) -> Any:
        if dtype != "float32":
            return theirs(shape, dtype=dtype)
        return getattr(np, name)(shape, np.float32)

    def draw(shape: Any, *, dtype: Any, seed: Any, **bounds: float) -> Any:
        if dtype != "float32" or not isinstance(seed, int):
            return theirs(shape, dtype=dtype, seed=seed, **bounds)
        rng = np.random.default_rng(seed)
        return DRAWS[name](rng, tuple(shape), *bounds.values())

    return draw if name in DRAWS else constant
