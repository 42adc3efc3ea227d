"""model.keras with what belongs to it: labels, resize policy, meaning."""

import dataclasses
import functools
import os
import pathlib

import keras

from tlkeras import errors
from tlkeras import files
from tlkeras.backbones import base as bases
from tlkeras.backbones import locate
from tlkeras.backbones import weights
from tlkeras.data import images as image_stores
from tlkeras.machine import devices
from tlkeras.models import averaging
from tlkeras.models import forward as forwards
from tlkeras.models import metadata
from tlkeras.models import reference as references
from tlkeras.models import task as tasks
from tlkeras.models import threshold as thresholds


@dataclasses.dataclass(frozen=True)
class TrainedModel:
    """A trained model and what is needed to use it.

    model: images [n, size, size, 3], float32 in 0..255 -> logits [n, k].
    labels: the k classes, in the order of the logits.
    shape: what an image becomes before the model takes it.
    task: what the logits answer.
    threshold: of two classes, from which probability on one is answered, if
      that is not the likelier one; `task` then answers so.
    reference: what answers on new images are compared with, if it is known.
    tta: what answers are averaged over, one of `averaging.WAYS`.
    compiled: what was compiled of the model, by the way of averaging; others of
      the same model that are made from this one share it.
    """

    model: keras.Model
    labels: tuple[str, ...]
    shape: image_stores.Shape
    task: tasks.Task = tasks.SINGLE_LABEL
    reference: references.Reference | None = None
    tta: str = averaging.WAYS[0]
    threshold: thresholds.Threshold | None = None
    compiled: dict[str, forwards.Forward] = dataclasses.field(
        default_factory=dict, repr=False, compare=False
    )

    @property
    def forward(self) -> forwards.Forward:
        """Images [n, s, s, 3], uint8 -> features [n, c] and logits [n, k].

        The features are of the images themselves, the logits `averaged`.
        """
        found = self.compiled.get(self.tta)
        if found is None or found.of is not self.model:
            found = forwards.Forward(self.answering, of=self.model)
            self.compiled[self.tta] = found
        return found

    @functools.cached_property
    def answering(self) -> keras.Model:
        """Images -> features [n, c] and logits [n, k], as `forward`."""
        features = self.model.get_layer("base").output
        return keras.Model(
            self.model.input,
            [keras.ops.cast(features, "float32"), self.averaged.output],
        )

    @functools.cached_property
    def averaged(self) -> keras.Model:
        """Images -> logits [n, k], averaged as `tta` says."""
        return averaging.averaged(self.model, self.tta)

    @property
    def tells_unknown(self) -> bool:
        """Whether pictures can be told that are none of the classes."""
        return self.reference is not None and len(self.reference.features) > 0

    @functools.cached_property
    def whole(self) -> keras.Model:
        """Images -> logits [n, k] and, where it is known, similarity [n]."""
        if self.reference is None or not self.tells_unknown:
            return self.averaged
        features, logits = self.answering.outputs
        similarity = references.similarity(features, self.reference.features)
        return keras.Model(self.model.input, [logits, similarity])


def save(path: str | os.PathLike, classifier: TrainedModel) -> None:
    """Writes `classifier` to `path`, a .keras file, whole or not at all.

    Its model must compile again before a further `fit`.
    """
    # Else Keras saves how a phase was compiled, and warns when it opens it.
    for part in (classifier.model, *classifier.model.layers):
        if isinstance(part, keras.Model):
            part.compiled = False
    with files.replacing(path) as temporary:
        classifier.model.save(temporary)
        metadata.append(
            temporary,
            metadata.Metadata(
                labels=classifier.labels,
                resize=classifier.shape.resize,
                image_size=classifier.shape.size,
                max_pixels=classifier.shape.max_pixels,
                backbone=bases.of(classifier.model).backbone,
                tta=classifier.tta,
                threshold=classifier.threshold,
            ),
        )
        if classifier.reference is not None:
            references.append(temporary, classifier.reference)


def load(path: str | os.PathLike, *, tta: str = "model") -> TrainedModel:
    """Returns the classifier in a run directory or a .keras file.

    tta: what its answers are averaged over; `model` is as it was saved.

    Raises `UserError` where there is none, where it is damaged, lacks its
    metadata or is not what they say, or where a weight is NaN or infinite; and
    for a way of averaging that is none.
    """
    if tta not in ("model", *averaging.WAYS):
        raise errors.UserError(
            f"`tta` must be one of model, {', '.join(averaging.WAYS)}. "
            f"Received: {tta!r}."
        )
    devices.leave_to_keras()
    path = locate.model(path)
    known = metadata.read(path)
    model = weights.open_model(path)
    _check_fits(model, known, path)
    weights.check_finite(model, f"`model` {path} holds")
    threshold = known.threshold
    return TrainedModel(
        model,
        known.labels,
        image_stores.Shape(known.image_size, known.resize, known.max_pixels),
        task=threshold.task if threshold else tasks.SINGLE_LABEL,
        threshold=threshold,
        reference=references.read(path),
        tta=known.tta if tta == "model" else tta,
    )


def _check_fits(
    model: keras.Model, known: metadata.Metadata, path: pathlib.Path
) -> None:
    """Raises `UserError` where the model is not what its metadata say."""
    size = known.image_size
    wanted = ((None, size, size, 3), (None, len(known.labels)))
    found = (model.input_shape, model.output_shape)
    if found != wanted or not bases.is_in(model):
        raise errors.UserError(
            f"`model` {path} is not what its metadata say: with image_size = "
            f"{size} and {len(known.labels)} labels a tlkeras model is "
            f"{wanted[0]} -> {wanted[1]}. Received: {found[0]} -> {found[1]}."
        )
