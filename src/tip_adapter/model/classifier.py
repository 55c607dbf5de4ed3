"""FewShotClassifier: an encoder, class names and a method in one object; images in, predictions out."""

from __future__ import annotations

import copy
import os
import reprlib
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self, overload

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import NotFittedError

from tip_adapter import validation
from tip_adapter.encoders import DEFAULT, load_encoder, refuse_unasked_download
from tip_adapter.encoders.joined import JoinedEncoder
from tip_adapter.errors import FolderError, WrongEncoder, warn
from tip_adapter.features.sources import encode_labelled, image_source, labelled_source, listed_source, stream_labelled
from tip_adapter.images.inputs import image_ids, image_name, is_image, listed_ids, listed_labels, listed_pairs
from tip_adapter.images.label_doubts import label_doubts
from tip_adapter.images.labels import label_of, refuse_lookalike_labels
from tip_adapter.images.sampling import draw
from tip_adapter.methods import AUTO, method_class
from tip_adapter.model.contents import Changes, distinct, warning_of_overlap
from tip_adapter.model.fitting import encoder_parts, lacks_choice, refuse_unknown, with_choice
from tip_adapter.model.head import Head, load_head
from tip_adapter.model.incremental import relabelled, with_images, without_class, without_images
from tip_adapter.model.learning import (
    encode_support,
    learn_again,
    learn_changes,
    learn_images,
    learn_support,
    with_named,
)
from tip_adapter.model.prediction import encode_readable, least_score, predictions
from tip_adapter.model.saving import write_model_folder
from tip_adapter.model.settings import (
    METHOD_SETTINGS,
    check_encoder,
    check_settings,
    is_loadable,
    listed_support,
    method_of,
)
from tip_adapter.text import counted, first_of, printable
from tip_adapter.validation import require
from tip_adapter.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from numpy.typing import NDArray

    from tip_adapter.encoders import Encoder
    from tip_adapter.features.encode import Progress
    from tip_adapter.features.sources import VectorSource
    from tip_adapter.images.inputs import ImageInput
    from tip_adapter.methods import VectorClassifier
    from tip_adapter.methods.tuning import Choice
    from tip_adapter.metrics import MetricAccumulator
    from tip_adapter.model.prediction import Prediction
    from tip_adapter.vectors import ClassEmbeddings, SupportSet


@dataclass(eq=False, repr=False)
class FewShotClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier from a few photos per class and the class names: a scikit-learn estimator over photos.

    Parameters
    ----------
    encoder : name of an encoder (see `tip-adapter encoders`), or an Encoder; a list of two, or ``name+name``, for two at once,
        whose kernels are added with weights by left-out likelihood; None for ``pocket``, or for the one that stored vectors
        were made with
    method : ``auto`` (``text-offset``; ``tip-adapter`` where alpha and beta, or `tune`, are given), ``text-offset``,
        ``zero-shot``, ``tip-adapter``, ``tip-adapter-f``, ``linear-probe``, ``clip-adapter``, ``coop``, or an entry point
        ``tip_adapter.methods`` of an installed package
    tune : how alpha and beta are chosen: ``loo`` or ``leave-one-out``, ``scale-free``, or a folder or list of validation
        photos; None for leave-one-out where at least half the classes with photos have two, else scale-free. For
        ``linear-probe``: a folder or list of validation photos to search C by
    alpha, beta : float, fixed values: give both, and no `tune`
    templates : texts with ``{}`` for the class name, or names of template sets; None for the encoder's own
    class_names : label → the name that the text encoder reads; None for the labels, underscores as spaces
    epochs : int, passes over the support; None for its paper's number of epochs
    prior : for ``text-offset``: ``balanced``, every class is as likely as any other, or ``counts``, as likely as it is frequent in
        the support; None for balanced
    calibrate : bool, whether a temperature is fitted, so that scores are calibrated; else it is 1. Labels are the same
    logit_scale : float, what text logits are multiplied by; None for the encoder's own
    seed : int, of draws and of training
    device : None or ``cpu``, or ``cuda`` where ONNX Runtime has it
    threads : int, None for one per processor that this process may use in its container

    Notes
    -----
    Threads may share it. Methods that change the model run one after the other, and none is lost; a prediction uses the model
    as it was when the call began, and does not wait for them.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter import FewShotClassifier
    >>> shades = [np.full((32, 32, 3), shade, np.uint8) for shade in (0, 10, 245, 255)]
    >>> model = FewShotClassifier(encoder="toy").fit(shades, ["night", "night", "day", "day"])
    >>> print(*model.predict([shades[3], shades[0]]))
    day night
    """

    encoder: str | Encoder | Sequence[str | Encoder] | None = None
    method: str = AUTO
    tune: str | os.PathLike[str] | None = None
    alpha: float | None = None
    beta: float | None = None
    templates: Sequence[str] | None = None
    class_names: Mapping[str, str] | None = None
    epochs: int | None = None
    prior: str | None = None
    calibrate: bool = True
    logit_scale: float | None = None
    seed: int = 0
    device: str | None = None
    threads: int | None = None
    _head: Head | None = field(default=None, init=False)
    _made_with: str | None = field(default=None, init=False)
    _weights: tuple[float, ...] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        # No field: a lock cannot be copied. Reentrant, because one method that changes the model may call another.
        self._writing = threading.RLock()

    # ---- fitting --------------------------------------------------------------------------------------------------

    def fit(self, images: Iterable[ImageInput], labels: Iterable[str]) -> Self:
        """Learn from photos and their labels.

        Parameters
        ----------
        images : list or other iterable of paths, bytes (the content of an image file), binary files, PIL images or uint8
            arrays
        labels : one text per photo

        Raises
        ------
        LabelError
            A label is not text, or there is another number of them than of photos.
        NothingReadable
            Not one photo could be read. A few unreadable ones are left out with a warning.
        UsageError
            A constructor value is not what it takes, or they make no sense together; `images` is one photo, not a list
            of them. Raised before any photo is decoded.
        """
        self._check()
        photos, texts = listed_pairs(images, labels)
        with self._writing:
            source = listed_source(photos, texts, image_ids(photos)).noted(*label_doubts(texts))
            return self._learn(source, None)

    def fit_folder(
        self, folder: str | os.PathLike[str], shots: int | None = None, *, progress: Progress | None = None
    ) -> Self:
        """Learn from a folder of class folders, a split folder (its train part), a list, or stored vectors.

        Parameters
        ----------
        folder : path; stored vectors are a folder of features or a file of vectors, and nothing is encoded then
        shots : int, photos per class, drawn by `seed`; None for all
        progress : called with (photos done, photos in all)

        Raises
        ------
        FolderError, LabelError, FeaturesError
            As `labelled_source`. The others as `fit`.
        WrongEncoder
            The vectors were made with another encoder than the one given.
        UnaskedDownload
            They name an encoder that is not on this machine, and none is given.
        """
        self._check()
        n_shots = None if shots is None else validation.integer(shots, "shots", 1)
        photos = labelled_source(folder, part="train")
        with self._writing:
            self._use_encoder_of(photos)
            if n_shots is not None:
                photos = draw(photos, n_shots, validation.seed(self.seed))
            return self._learn(photos, progress)

    def fit_support(
        self, support: SupportSet, classes: Iterable[str] = (), *, progress: Progress | None = None
    ) -> Self:
        """Learn from photos that are encoded already.

        Parameters
        ----------
        support : SupportSet
        classes : labels beyond those of `support`: classes with a name and no photo
        progress : called with (photos done, photos in all) while validation photos are encoded

        Raises
        ------
        UsageError
            As `fit`.
        """
        self._check()
        with self._writing:
            self._head = learn_support(support, classes, vars(self), self.encoder_, progress=progress)
            return self

    # ---- a scikit-learn estimator ----------------------------------------------------------------------------------

    def set_params(self, **params: Any) -> Self:
        """Set constructor values, which the next `fit` or `retune` uses.

        With another `encoder` what was learned is forgotten, since its vectors say nothing about that encoder's.

        Raises
        ------
        ValueError
            There is no constructor value of that name. Nothing is set then.
        """
        unknown = sorted(set(params) - set(self.get_params(deep=False)))
        if unknown:
            known = ", ".join(self.get_params(deep=False))
            raise ValueError(f"FewShotClassifier has no parameter {unknown[0]!r}; it has {known}")
        with self._writing:
            before = {name: getattr(self, name) for name in ("encoder", "device", "threads")}
            super().set_params(**params)
            if any(getattr(self, name) != value for name, value in before.items()):
                self.__dict__.pop("encoder_", None)
            if self.encoder != before["encoder"]:
                self._head = self._made_with = self._weights = None
            return self

    def __sklearn_clone__(self) -> FewShotClassifier:
        """A new, unfitted classifier with the same values; a loaded encoder is shared, since it cannot be copied."""
        params = self.get_params(deep=False)
        return type(self)(**{k: v if k == "encoder" else copy.deepcopy(v) for k, v in params.items()})

    def __sklearn_is_fitted__(self) -> bool:
        return self._head is not None

    def __getstate__(self) -> dict[str, Any]:
        """Without the lock, and an encoder that was given by name: neither can be copied, and it is loaded when needed."""
        state = self.__dict__.copy()  # in one step: another thread may set an attribute meanwhile
        del state["_writing"]
        if is_loadable(self.encoder):
            state.pop("encoder_", None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.__post_init__()

    def __repr__(self) -> str:
        """What was given, and how much was learned."""
        defaults = {name: value.default for name, value in type(self).__dataclass_fields__.items()}
        params = self.get_params(deep=False)
        if not is_loadable(self.encoder):
            params["encoder"] = self.encoder_.identity.name
        given = [f"{name}={reprlib.repr(value)}" for name, value in params.items() if value != defaults[name]]
        head = self._head
        state = (
            "not fitted"
            if head is None
            else f"{counted(len(head.names), 'class', 'classes')}, {counted(len(head.support), 'photo', 'photos')}"
        )
        return f"<{type(self).__name__}({', '.join(given)}), {state}>"

    # ---- the fitted state -----------------------------------------------------------------------------------------

    @property
    def head_(self) -> Head:
        """The fitted state: replaced as a whole, never changed; NotFittedError before `fit`."""
        if self._head is None:
            reason = "this FewShotClassifier has learned nothing yet; call fit or fit_folder, or load a model"
            raise NotFittedError(reason)
        return self._head

    @property
    def classes_(self) -> NDArray[np.str_]:
        """(n_classes,) str array, sorted labels."""
        return self.head_.classes

    @property
    def names_(self) -> Mapping[str, str]:
        """Label → the name that the text encoder read."""
        return self.head_.names

    @property
    def class_embeddings_(self) -> ClassEmbeddings | None:
        """The class names as vectors; None where the encoder reads no names."""
        return self.head_.class_embeddings

    @property
    def support_(self) -> SupportSet:
        """The labelled photos as vectors."""
        return self.head_.support

    @property
    def choice_(self) -> Choice[float | None] | None:
        """How settings were chosen, with alpha and beta where the method has them; None where it chooses none."""
        return self.head_.choice

    @property
    def estimator_(self) -> VectorClassifier:
        """The fitted method."""
        return self.head_.estimator

    @property
    def needs_finetune_(self) -> bool:
        """Whether learned keys fell back to the photos' own vectors; `retune` fine-tunes again."""
        return self.head_.finetune_with is not None

    @cached_property
    def encoder_(self) -> Encoder:
        """The encoder, loaded when first needed; two at once have the weights of the last fit."""
        given = (self._made_with or DEFAULT) if self.encoder is None else self.encoder
        if isinstance(given, Sequence):
            encoder = load_encoder(given, device=self.device, threads=self.threads)
        else:
            encoder = given
        return encoder.weighted(self._weights) if isinstance(encoder, JoinedEncoder) and self._weights else encoder

    # ---- incremental learning -------------------------------------------------------------------------------------

    def partial_fit(self, images: Iterable[ImageInput], labels: Iterable[str]) -> Self:
        """Learn more photos, of known and of new classes; what was chosen on photos (alpha and beta) stays until `retune`.

        Parameters
        ----------
        images, labels : as in `fit`; a path's text is the photo's id

        Returns
        -------
        self. Learned keys (tip-adapter-f) fall back to Tip-Adapter over the photos' own vectors: `needs_finetune_`.

        Raises
        ------
        LabelError, NothingReadable, UsageError
            As `fit`; UsageError also for another photo under the id of one in the model. Nothing is learned then.

        Notes
        -----
        A photo whose content the model has already in that class is skipped, and a warning counts such photos.
        """
        photos, texts = listed_pairs(images, labels)
        with self._writing:
            head = self.head_
            if not head.estimator.capabilities.needs_images:
                return self._set_head(with_named(head, sorted(set(texts)), vars(self), self.encoder_))
            # Photos without a name are numbered after those of this head: no other thread may add one meanwhile.
            source = listed_source(photos, texts, image_ids(photos, head.support.ids.tolist()))
            support, _ = encode_labelled(source, self.encoder_, threads=self.threads)
            return self.add_support(support)

    def add_support(self, photos: SupportSet) -> Self:
        """`partial_fit` for photos that are encoded already.

        It raises as that, and UsageError if `photos` is no SupportSet of the encoder's width with unique ids.
        """
        photos = listed_support(photos, "photos", self.encoder_.identity.width)
        with self._writing:
            fresh = distinct(photos, self.head_.support)
            if len(photos) and not len(fresh):
                return self
            head = with_named(self.head_, sorted(set(fresh.labels.tolist())), vars(self), self.encoder_)
            head = with_images(head, fresh)
            return self._relearn(head, None) if lacks_choice(head, head.refit_method) else self._set_head(head)

    def relabel(self, photo: str, label: str) -> Self:
        """Give a photo, by its id (`support_.ids`), another label of the model; what was chosen stays until `retune`.

        Raises
        ------
        UnknownName, UsageError
            There is no photo of that id, or no such class; `photo` or `label` is no text. Nothing is changed then.
        """
        require(isinstance(photo, str), "photo", "a text", photo)
        (wanted,) = listed_labels([label], "label")
        with self._writing:
            return self._set_head(relabelled(self.head_, photo, wanted))

    def remove(self, ids: Iterable[str]) -> Self:
        """Remove photos by their ids (`support_.ids`), as if they had never been added. Classes stay, by their names.

        Raises
        ------
        UnknownName, UsageError
            There is no photo of that id; `ids` are no texts, or one is given twice. Nothing is removed then.
        """
        photos = listed_ids(ids)
        with self._writing:
            return self._set_head(without_images(self.head_, photos))

    def remove_class(self, label: str) -> Self:
        """Remove a class and its photos, as if they had never been added.

        Raises
        ------
        UnknownName, UsageError
            There is no such class; it is the only one, or `label` is no text.
        """
        with self._writing:
            head = self.head_
            require(isinstance(label, str), "label", "a text", label)
            return self._set_head(without_class(head, label_of(label, "label") if label else label))

    def retune(self, *, progress: Progress | None = None) -> Self:
        """Choose settings (alpha and beta by `tune` or the default rule) and fit again; UsageError as `fit`."""
        with self._writing:
            return self._relearn(self.head_, progress)

    def compare_folder(self, folder: str | os.PathLike[str], *, progress: Progress | None = None) -> Changes:
        """How the photos that `fit_folder` would learn from differ from those of the model, which is not changed.

        Files whose content is in the model are read, but neither decoded nor encoded.

        Parameters
        ----------
        folder, progress : as in `fit_folder`

        Raises
        ------
        FolderError, LabelError, FeaturesError, WrongEncoder, NothingReadable
            As `fit_folder`. FolderError also if the folder has no photos and the model has: a disk may not be connected.
        """
        head, photos = self.head_, labelled_source(folder, part="train")
        warn(*photos.notes)
        if len(head.support) and not len(photos):
            n = counted(len(head.support), "photo", "photos")
            raise FolderError(
                f"{printable(folder)} has no photos, and the model has {n}; check the path and that its disk is connected"
            )
        known = photos.reusing(head.support)
        support = encode_support(known, head.refit_method, self.encoder_, threads=self.threads, progress=progress)
        return Changes.between(head, support, photos.classes)

    def apply_changes(self, changes: Changes, *, progress: Progress | None = None) -> Self:
        """Learn the photos and classes of a folder instead of the present ones; raises as `fit`.

        The model is then what `fit_folder` makes of the folder with the settings that this model was fitted with: what is
        chosen or trained, such as alpha and beta, is so again. Names given for classes (`class_names`) and the
        weights of two encoders are kept.

        Parameters
        ----------
        changes : Changes, what `compare_folder` returned
        progress : as in `fit_support`
        """
        require(isinstance(changes, Changes), "changes", "what compare_folder returns", changes)
        with self._writing:
            head = self.head_
            self._check()
            self._head = learn_changes(head, changes, vars(self), self.encoder_, progress=progress)
            return self

    # ---- prediction -----------------------------------------------------------------------------------------------

    # A text is an iterable of texts, too: type checkers warn that it fits two of these.
    @overload
    def predict(self, images: NDArray[Any], *, min_score: float | str = 0.0) -> Any: ...  # one photo or several
    @overload
    def predict(self, images: ImageInput) -> str: ...  # type: ignore[overload-overlap]
    @overload
    def predict(self, images: ImageInput, *, min_score: float | str) -> str | None: ...  # type: ignore[overload-overlap]
    @overload
    def predict(self, images: Iterable[ImageInput], *, min_score: float | str = 0.0) -> NDArray[Any]: ...
    def predict(self, images: Any, *, min_score: float | str = 0.0) -> Any:
        """The label of a photo, or the labels of several.

        Parameters
        ----------
        images : one photo, or a list or other iterable of photos, each as in `fit`
        min_score : as in `predict_folder`: below it the label is None, "none of these"

        Returns
        -------
        str or None for one photo; for several an (n,) array, of str, or with a `min_score` above 0 of objects

        Raises
        ------
        ImageError, UsageError, NotFittedError
            One cannot be read; `images` are no photos, `min_score` is out of bounds or the model has no threshold; before
            `fit`.
        """
        head = self.head_
        least = least_score(min_score, head)
        vectors, one = self._vectors(images)
        labels = head.predict(vectors, least)
        return labels.item() if one else labels

    def predict_proba(self, images: ImageInput | Iterable[ImageInput]) -> NDArray[np.float32]:
        """Probabilities of photos, softmax of logits / temperature; takes and raises what `predict` does.

        Returns
        -------
        (n_classes,) float32 array for one photo, (n, n_classes) for several; in the order of `classes_`
        """
        head = self.head_
        vectors, one = self._vectors(images)
        probabilities = head.probabilities(vectors)
        return probabilities[0] if one else probabilities

    def score(self, images: Iterable[ImageInput], labels: Iterable[str], sample_weight: Any = None) -> float:
        """Accuracy on (n,) photos, a list, with (n,) labels, in [0, 1]; raises as `predict`, LabelError as `fit`.

        Labels unknown to the model count as wrong, with a warning; LabelError if one looks like a class of the model.
        `sample_weight`, (n,) floats, weights the photos, as in scikit-learn; ValueError if it is of another shape, ZeroDivisionError if
        it sums to 0.
        """
        photos, texts = listed_pairs(images, labels)
        require(len(photos) > 0, "images", "at least one photo", photos)
        known = self.classes_.tolist()
        if unknown := sorted(set(texts).difference(known)):
            refuse_lookalike_labels(unknown, known)
            warn(f"labels unknown to the model, counted as wrong: {first_of(unknown)}")
        return float(np.average(self.predict(photos) == np.array(texts), axis=0, weights=sample_weight))

    def predict_folder(
        self, folder: str | os.PathLike[str], *, top: int = 5, min_score: float | str = 0.0
    ) -> list[Prediction]:
        """Predict the class of every photo in a folder, at any depth, in a list, or of stored vectors.

        Parameters
        ----------
        top : int, how many of the most likely classes a record lists
        min_score : float in [0, 1], below which the label is None: "none of these"; or ``auto``, the model's own threshold,
            which 95 % of its photos reach in leave-one-out

        Returns
        -------
        one Prediction per photo, a dict: image, label, score (probability: softmax of logits / temperature), top ([{label,
            score}]), error (or None)

        Raises
        ------
        FolderError, FeaturesError, WrongEncoder
            There are no photos; stored vectors cannot be read, or are another encoder's.
        UsageError
            `folder` is no path, `top` or `min_score` is out of bounds, or the model has no threshold.
        """
        return list(self.predict_stream(image_source(folder), top=top, min_score=min_score))

    def predict_stream(
        self, images: Iterable[ImageInput] | VectorSource, *, top: int = 5, min_score: float | str = 0.0
    ) -> Iterator[Prediction]:
        """Records as `predict_folder`'s, in order, as soon as a batch is done; an unreadable image is a record with `error`.

        Parameters
        ----------
        images : as in `fit`, or a VectorSource (`tip_adapter.features.sources.image_source`)
        top, min_score : as in `predict_folder`

        Raises
        ------
        UsageError, NotFittedError
            As `predict_folder` and `predict`, before the first record.
        """
        return predictions(images, self.head_, self.encoder_, top=top, min_score=min_score, threads=self.threads)

    def explain_stream(
        self, images: Iterable[ImageInput] | VectorSource, *, top: int = 5, min_score: float | str = 0.0
    ) -> Iterator[Prediction]:
        """Records as `predict_stream`'s, each with its `explanation`: that of `explain` for the answer and the runner-up.

        It takes and raises what `predict_stream` does, and UsageError with the first photos if the method cannot explain.
        """
        return predictions(
            images, self.head_, self.encoder_, top=top, min_score=min_score, threads=self.threads, explain=True
        )

    def explain(self, image: ImageInput) -> Prediction:
        """Explain a prediction: the logits of the predicted class and the runner-up, decomposed.

        Parameters
        ----------
        image : one photo, as in `fit`

        Returns
        -------
        the record of `predict_folder`, with `explanation` : for the answer and the runner-up a record of label, name,
            score, logit, and the logit's parts: text (the class name), photos (the three that weighed most: id, part),
            others (all other photos of the class together), n_others. text + photos + others is the logit

        Raises
        ------
        ImageError, UsageError, NotFittedError
            It cannot be read; it is no image, or the method cannot explain; before `fit`.
        """
        vectors = encode_readable([image], self.encoder_, threads=self.threads)
        (answer,) = self.head_.explained_answers(vectors, 5, 0.0)
        return {"image": image_name(image, 0), **answer, "error": None}

    def evaluate_folder(
        self,
        folder: str | os.PathLike[str],
        *,
        progress: Progress | None = None,
        accumulator: MetricAccumulator | None = None,
    ) -> dict[str, Any]:
        """Score the classifier on labelled photos: class folders, a split folder (its test part), a list, or stored vectors.

        Parameters
        ----------
        folder : path
        progress : called with (photos done, photos in all)
        accumulator : an empty one of `head_.new_accumulator`; pass one to see more of what was counted

        Returns
        -------
        accuracy, mean_per_class_accuracy, accuracy_interval (95 %), zero_shot_accuracy : fractions
        n_images : photos scored;  n_failed : photos that could not be read, outside all figures
        unknown_classes : labels that the model does not have; their photos count as wrong
        per_class : label → {accuracy, n}
        confusions : [{label, called, n}], the photos of a class that were predicted as another, the most frequent first
        calibration : temperature, n_known (photos of known classes, those that the likelihood counts), and before (at
            temperature 1) and after: {ece, negative_log_likelihood, curve: [{confidence, accuracy, n}]}; see Calibration
        protocol, alpha, beta : how alpha and beta were chosen, and their values; None where the method has none
        seconds, images_per_second

        Raises
        ------
        FolderError, LabelError, FeaturesError, WrongEncoder, NothingReadable
            As `fit_folder`; LabelError also if the model knows none of the classes.
        """
        started, head = time.perf_counter(), self.head_
        photos = labelled_source(folder, part="test")
        warn(*photos.notes)
        refuse_unknown(photos, list(head.names))
        accumulator = head.new_accumulator() if accumulator is None else accumulator
        with closing(stream_labelled(photos, self.encoder_, threads=self.threads, progress=progress)) as batches:
            for batch in warning_of_overlap(batches, head.support):
                head.count(batch, accumulator)
        accumulator.add_unreadable(photos.ids, photos.labels)
        n, seconds = len(accumulator), time.perf_counter() - started
        timing = {"seconds": seconds, "images_per_second": n / seconds}
        return {**head.evaluated(accumulator), "n_failed": len(photos) - n, **timing}

    def evaluate_support(self, support: SupportSet) -> dict[str, Any]:
        """`evaluate_folder`'s record for photos that are encoded already, without n_failed and times.

        It raises UsageError if `support` is no SupportSet of the encoder's width, or empty.
        """
        head = self.head_
        photos = listed_support(support, "support", self.encoder_.identity.width)
        require(len(photos) > 0, "support", "at least one photo", photos)
        accumulator = head.new_accumulator()
        head.count(photos, accumulator)
        return head.evaluated(accumulator)

    # ---- saving ---------------------------------------------------------------------------------------------------

    def save(self, folder: str | os.PathLike[str], *, force: bool = False) -> None:
        """Write the model to a folder, whole or not at all.

        Raises
        ------
        OutputExists, UsageError
            Something exists there and `force` is false; `folder` is no path.
        NotWritable
            With the system's reason; what was there before still is.
        """
        write_model_folder(validation.path(folder, "folder"), *self._to_record(), replace=force)

    @classmethod
    def load(
        cls,
        folder: str | os.PathLike[str],
        *,
        encoder: str | Encoder | Sequence[str | Encoder] | None = None,
        device: str | None = None,
        threads: int | None = None,
    ) -> FewShotClassifier:
        """Read a model folder; predicting needs no text side.

        Parameters
        ----------
        folder : path
        encoder : name of the encoder, or an Encoder, if the encoder saved with the model has moved; its
            fingerprint must be the same
        device, threads : as in the constructor

        Raises
        ------
        ModelFolderError
            There is no model, it is damaged, or it was made with another encoder.
        UnknownName, UnaskedDownload
            Its method or encoder is not installed here, or is not in the hub's cache and `encoder` is None.
        UsageError, CheckpointError, DownloadError
            As `load_encoder`.
        """
        check_encoder(encoder)
        path = validation.path(folder, "folder")
        head, config = load_head(path)
        made_with = config["encoder"]
        kept = {name: config["parameters"].get(name) for name in METHOD_SETTINGS}
        if encoder is None:
            refuse_unasked_download(made_with["name"], folder)
            encoder = made_with["name"]
        model = cls(encoder, head.method, **kept, seed=config["seed"], device=device, threads=threads)
        model._head = head
        identity = model.encoder_.identity
        if (identity.fingerprint, identity.width) != (made_with["fingerprint"], made_with["width"]):
            raise WrongEncoder(
                f"{printable(path)} was made with another {made_with['name']} (fingerprint {made_with['fingerprint'][:12]}…) "
                f"than the one loaded ({printable(identity.name)}, {identity.fingerprint[:12]}…); fit it again"
            )
        return model

    @classmethod
    def from_head(cls, head: Head, encoder: Encoder, *, threads: int | None = None) -> FewShotClassifier:
        """A classifier with a fitted state, and the encoder that made its vectors."""
        model = cls(encoder, head.method, threads=threads)
        model._head = head
        return model

    def push_to_hub(
        self, repo_id: str, *, revision: str | None = None, private: bool = False, token: str | None = None
    ) -> str:
        """Send the model to the Hugging Face hub: the files of `save`, its card as the repository's page.

        No photo goes up; the photos' vectors, ids (`support_.ids`, paths as a rule) and SHA-256s, and the class names do.

        Parameters
        ----------
        repo_id : ``namespace/name``; made where there is none
        revision : branch, made where there is none; None for the main one
        private : whether a repository that is made is private
        token : of the hub; None for that of `hf auth login` or HF_TOKEN

        Returns
        -------
        the commit: a revision that `from_pretrained` takes

        Raises
        ------
        UploadError, UsageError
            With the reason; `repo_id` or `revision` cannot be one. The repository holds what it held.
        """
        from tip_adapter.model.hub import upload_model  # its import takes a third of a second

        return upload_model(*self._to_record(), repo_id, revision=revision, private=private, token=token)

    @classmethod
    def from_pretrained(
        cls,
        repo_id_or_folder: str | os.PathLike[str],
        *,
        revision: str | None = None,
        token: str | None = None,
        device: str | None = None,
        threads: int | None = None,
    ) -> FewShotClassifier:
        """`load` a model from a folder, or from a repository of the Hugging Face hub.

        Parameters
        ----------
        repo_id_or_folder : a folder, or ``namespace/name``
        revision : branch, tag or commit of a repository; None for its main branch
        token : of the hub; None for that of `hf auth login` or HF_TOKEN
        device, threads : as in `load`

        Raises
        ------
        DownloadError
            With the reason; what was fetched before is in the cache and answers offline.
        UsageError
            It is neither a folder nor can it be a repository.
        ModelFolderError, UnknownName, CheckpointError
            As `load`: what was fetched is checked as any model folder.
        """
        folder = validation.path(repo_id_or_folder, "repo_id_or_folder")
        if not folder.is_dir():
            from tip_adapter.model.hub import download_model

            folder = download_model(os.fspath(repo_id_or_folder), revision=revision, token=token)
        return cls.load(folder, device=device, threads=threads)

    # ---- internals ------------------------------------------------------------------------------------------------

    def _vectors(self, images: Any) -> tuple[NDArray[np.float32], bool]:
        """(n, d) unit rows of a photo or of several, and whether it is one; raises as `encode_readable`."""
        one = is_image(images)
        return encode_readable([images] if one else images, self.encoder_, threads=self.threads), one

    def _learn(self, photos: VectorSource, progress: Progress | None) -> Self:
        """Learn from photos instead of what was learned before; weights that an earlier fit chose are chosen again."""
        encoder = self.encoder_
        if isinstance(encoder, JoinedEncoder) and self._weights:
            encoder = encoder.weighted(None)
        head, encoder, weights = learn_images(photos, vars(self), encoder, progress=progress)
        self.__dict__["encoder_"], self._head, self._weights = encoder, head, weights
        return self

    def _relearn(self, head: Head, progress: Progress | None) -> Self:
        """Learn again from the photos of a head."""
        self._check()
        self._head = learn_again(head, vars(self), self.encoder_, progress=progress)
        return self

    def _set_head(self, head: Head) -> Self:
        """Use a head that photos or classes were added to or removed from."""
        if head.finetune_with and not self.head_.finetune_with:
            warn(
                f"{head.finetune_with} cannot be updated in place: predictions use the photos' own vectors until it is "
                "fine-tuned again (retune)"
            )
        self._head = with_choice(head, vars(self), self.encoder_) if lacks_choice(head, head.method) else head
        return self

    def _use_encoder_of(self, photos: VectorSource) -> None:
        """If no encoder was given, use the one that the vectors were made with."""
        if photos.encoder_name != self._made_with and self.encoder is None:
            if photos.encoder_name:
                refuse_unasked_download(photos.encoder_name, photos.root)
            self._made_with = photos.encoder_name
            self.__dict__.pop("encoder_", None)

    def _to_record(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Contents of a model folder: configuration and arrays."""
        config, arrays = self.head_.to_record()
        made_by = {
            "tip_adapter": __version__,
            "encoder": asdict(self.encoder_.identity),
            "seed": validation.seed(self.seed),
        }
        return {**made_by, **config}, arrays

    def _check(self) -> None:
        """Check the settings before any photo is read."""
        check_settings(vars(self))
        method = method_of(vars(self))
        if method_class(method).capabilities.encoder_parts:
            encoder_parts(self.encoder_, method)
