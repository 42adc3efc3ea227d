"""Whether a written file answers as the model that it was written from."""

import dataclasses
import pathlib
import statistics
import time
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from tlkeras import errors
from tlkeras.backbones import base as bases
from tlkeras.export import samples as all_samples
from tlkeras.models import saving
from tlkeras.scoring import intervals

# Probabilities of an exported graph and of the live model differ by the order
# of float32 sums in batches of another size; narrow formats by more.
TOLERANCE = {"float32": 1e-4, "bfloat16": 3e-2, "float16": 5e-3}
_BATCH = 32
# Images on which wrong ways to take pixels are tried.
_MISTAKEN = 64
# Runs that the time of one image is the median of, and seconds for them.
_RUNS = 50
_SECONDS = 2.0
_OUTPUTS = {
    "probabilities": np.float64,
    "similarity": np.float64,
    "known": bool,
}

# Images [n, size, size, 3], uint8, to what `runtimes` says.
Answer = Callable[[np.ndarray], Mapping[str, np.ndarray]]


class ExportError(errors.UserError):
    """The exported model cannot be written, or does not answer as the live."""


@dataclasses.dataclass(frozen=True)
class Proof:
    """What a written file came to in its own runtime.

    images: how many, and `source` which they are. largest_difference: of a
    probability. changed: how many answers are others. live, file: shares of
    right answers of the model and of the file, and `difference` file - live on
    the same images; None where the labels are not known. pillow_difference,
    pillow_changed: against the same file, where Pillow decodes and resizes;
    None where it cannot. bytes: of the file. milliseconds: of one image,
    median of many, by `one_thread` and `all_threads`. runtime: its name and
    version. by_itself: largest difference and changed answers where the runtime
    does what it does unasked, if that is something else. similarity_difference:
    the largest of a similarity to training images, and known_changed: how many
    images are `known` otherwise; None where the model says nothing of it.
    """

    images: int
    source: str
    largest_difference: float
    changed: int
    live: intervals.Share | None
    file: intervals.Share | None
    difference: intervals.Difference | None
    pillow_difference: float | None
    pillow_changed: int | None
    bytes: int
    milliseconds: Mapping[str, float | None]
    runtime: str
    by_itself: Mapping[str, Any] | None = None
    similarity_difference: float | None = None
    known_changed: int | None = None


def prove(
    classifier: saving.TrainedModel,
    open_file: Callable[..., Answer],
    path: pathlib.Path,
    samples: all_samples.Samples,
    *,
    exact: bool,
    max_changed: float,
    runtime: str,
    own_threads: bool = True,
    by_itself: Mapping[str, str] | None = None,
) -> Proof:
    """Returns how the file at `path` answers, in its own runtime.

    open_file: a function of `runtimes`. exact: whether it computes as the model
    does, and its probabilities may differ by rounding alone. max_changed: the
    share of answers that may be others. own_threads: whether the runtime can be
    told how many threads to take. by_itself: keywords of `open_file` for what
    the runtime does unasked.

    Raises `ExportError` where the file does not run or answers otherwise.
    """
    try:
        answer = open_file(path)
        all_found = _all(answer, samples.squares)
        found = all_found["probabilities"]
    except Exception as error:
        line = next(iter(str(error).strip().splitlines()), "")
        raise ExportError(
            f"{runtime} does not run what the converter wrote: {line[:300]}"
        ) from error
    live, similarity = _live(classifier, samples.squares)
    difference = _distance(found, live, len(classifier.labels))
    allowed = TOLERANCE[bases.of(classifier.model).compute_dtype]
    if not (exact and difference <= allowed):
        _check_pixels(classifier, found, samples.squares)
    if exact and not difference <= allowed:
        raise ExportError(
            f"its probabilities differ by {difference:.3g} from the model's on "
            f"{len(found)} images; {allowed:g} are allowed."
        )
    answers, _ = classifier.task.answers(found)
    of_live, _ = classifier.task.answers(live)
    changed = int((answers != of_live).sum())
    if changed > max_changed * len(found):
        raise ExportError(
            f"it answers {changed} of {len(found)} images otherwise than the "
            f"model ({changed / len(found):.1%}); --max_changed={max_changed:g}"
            " allows fewer."
        )
    strange = _similarity(classifier, all_found, similarity)
    if strange and exact and not strange[0] <= allowed:
        raise ExportError(
            f"its similarities to training images differ by {strange[0]:.3g} "
            f"from the model's; {allowed:g} are allowed."
        )
    if strange and strange[1] > max_changed * len(found):
        raise ExportError(
            f"{strange[1]} of {len(found)} images are `known` otherwise than "
            f"by the model; --max_changed={max_changed:g} allows fewer."
        )
    unasked = None
    if by_itself:
        loose = _all(open_file(path, **by_itself), samples.squares)[
            "probabilities"
        ]
        unasked = {
            "largest_difference": float(np.abs(loose - live).max()),
            "changed": int(
                (classifier.task.answers(loose)[0] != of_live).sum()
            ),
        }
    by_pillow = _by_pillow(answer, found, samples)
    return Proof(
        images=len(found),
        source=samples.source,
        largest_difference=difference,
        changed=changed,
        **_accuracies(of_live, answers, samples),
        pillow_difference=by_pillow and by_pillow[0],
        pillow_changed=by_pillow and by_pillow[1],
        bytes=size(path),
        milliseconds={
            "one_thread": _milliseconds(
                open_file(path, threads=1), samples.squares
            )
            if own_threads
            else None,
            "all_threads": _milliseconds(answer, samples.squares),
        },
        runtime=runtime,
        by_itself=unasked,
        similarity_difference=strange and strange[0],
        known_changed=strange and strange[1],
    )


def size(path: pathlib.Path) -> int:
    """Returns the bytes of a file, or of all in a directory.

    The weights of an OpenVINO model stand beside its .xml.
    """
    if path.is_dir():
        return sum(each.stat().st_size for each in path.rglob("*.*"))
    paths = {path, path.with_suffix(".bin")}
    return sum(each.stat().st_size for each in paths if each.exists())


def _all(answer: Answer, squares: np.ndarray) -> dict[str, np.ndarray]:
    parts = [
        answer(squares[start : start + _BATCH])
        for start in range(0, len(squares), _BATCH)
    ]
    return {
        name: np.concatenate([part[name] for part in parts]).astype(kind)
        for name, kind in _OUTPUTS.items()
        if name in parts[0]
    }


def _live(
    classifier: saving.TrainedModel, squares: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns the model's own probabilities [n, k], and similarities [n].

    It takes numbers as pixels.
    """
    parts = [
        keras.tree.flatten(
            classifier.whole.predict_on_batch(
                squares[start : start + _BATCH].astype(np.float32)
            )
        )
        for start in range(0, len(squares), _BATCH)
    ]
    logits, *similarity = map(np.concatenate, zip(*parts, strict=True))
    return (
        classifier.task.probabilities(logits),
        similarity[0] if similarity else None,
    )


def _similarity(
    classifier: saving.TrainedModel,
    found: Mapping[str, np.ndarray],
    live: np.ndarray | None,
) -> tuple[float, int] | None:
    """Returns how similarities [n] differ, and how many are known otherwise.

    Raises `ExportError` where the file does not tell them.
    """
    if live is None or classifier.reference is None:
        return None
    for name in ("similarity", "known"):
        if found.get(name, live[:0]).shape != live.shape:
            raise ExportError(f"it does not give `{name}` for each image.")
    known = live >= classifier.reference.similarity
    return (
        float(np.abs(found["similarity"] - live).max()),
        int((found["known"] != known).sum()),
    )


def _distance(found: np.ndarray, live: np.ndarray, classes: int) -> float:
    if found.shape != (len(live), classes):
        raise ExportError(
            f"it gives an answer of shape {list(found.shape)} to {len(live)} "
            f"images of {classes} classes."
        )
    if not np.isfinite(found).all():
        raise ExportError("it gives probabilities that are no finite numbers.")
    return float(np.abs(found - live).max())


def _check_pixels(
    classifier: saving.TrainedModel, found: np.ndarray, squares: np.ndarray
) -> None:
    """Raises `ExportError` where another use of pixels explains the answers.

    Of a file that rounds to 8 bits a difference alone says little. One that
    answers as the model does to pixels in another order, or scaled otherwise,
    has lost something.
    """
    chosen = squares[:_MISTAKEN].astype(np.float32)
    found = found[:_MISTAKEN]
    right = np.abs(found - _live(classifier, chosen)[0]).mean()
    distances = {
        name: np.abs(found - _live(classifier, pixels)[0]).mean()
        for name, pixels in _mistaken(classifier, chosen)
    }
    nearest = min(distances, key=distances.__getitem__)
    # A mistake that changes nothing is none.
    if distances[nearest] < right / 2:
        raise ExportError(
            f"it answers as the model does to {nearest}: the converter has "
            "lost how pixels are prepared."
        )


def _mistaken(
    classifier: saving.TrainedModel, pixels: np.ndarray
) -> list[tuple[str, np.ndarray]]:
    """Returns wrong ways to take `pixels` [n, size, size, 3], by name."""
    unscaled = {
        "tf": 127.5 * (pixels + 1),
        "torch": 255
        * (
            pixels * np.array([0.229, 0.224, 0.225], np.float32)
            + np.array([0.485, 0.456, 0.406], np.float32)
        ),
        "caffe": pixels[..., ::-1]
        + np.array([123.68, 116.779, 103.939], np.float32),
    }.get(bases.of(classifier.model).scaling)
    ways = [
        ("BGR instead of RGB", pixels[..., ::-1]),
        ("pixels in 0..1", pixels / 255),
        ("pixels in -1..1", pixels / 127.5 - 1),
        ("pictures that are mirrored at a diagonal", pixels.swapaxes(1, 2)),
    ]
    if unscaled is not None:
        ways.append(("pixels without the network's own scaling", unscaled))
    return ways


def _accuracies(
    live: np.ndarray, file: np.ndarray, samples: all_samples.Samples
) -> dict[str, Any]:
    if samples.targets is None:
        return {"live": None, "file": None, "difference": None}
    before, after = live == samples.targets, file == samples.targets
    return {
        "live": intervals.share(before, samples.groups),
        "file": intervals.share(after, samples.groups),
        "difference": intervals.difference(after, before, samples.groups),
    }


def _by_pillow(
    answer: Answer, found: np.ndarray, samples: all_samples.Samples
) -> tuple[float, int] | None:
    """Returns how the answers to Pillow's pictures differ, where it has any."""
    known = [each is not None for each in samples.pillow]
    if not any(known):
        return None
    pictures = np.stack([each for each in samples.pillow if each is not None])
    others, same = _all(answer, pictures)["probabilities"], found[known]
    return (
        float(np.abs(others - same).max()),
        int((others.argmax(axis=1) != same.argmax(axis=1)).sum()),
    )


def _milliseconds(answer: Answer, squares: np.ndarray) -> float:
    """Returns how long one image takes: the median of many runs."""
    times: list[float] = []
    for _ in range(3):
        answer(squares[:1])
    began = time.perf_counter()
    while len(times) < _RUNS and (
        len(times) < 5 or time.perf_counter() - began < _SECONDS
    ):
        image = squares[len(times) % len(squares)][None]
        start = time.perf_counter()
        answer(image)
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)
