"""FewShotClassifier: an encoder, class names and a method put together; photos in, answers out."""

from __future__ import annotations

import inspect
import os
import time
import unicodedata
import warnings
from collections import Counter
from contextlib import closing
from dataclasses import asdict, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np

import tip_adapter
from tip_adapter.bundle import read_bundle, write_bundle
from tip_adapter.encoders import load_encoder
from tip_adapter.errors import (
    DamagedBundle,
    LabelError,
    TipAdapterWarning,
    UsageError,
    WrongEncoder,
)
from tip_adapter.evaluation import accuracy_of
from tip_adapter.features import encode_labelled, encode_photos, stream_vectors
from tip_adapter.methods import choose, method_class
from tip_adapter.methods.choose import Choice, support_of
from tip_adapter.methods.zero_shot import ZeroShotClassifier
from tip_adapter.photos.draw import draw
from tip_adapter.photos.find import find_labelled, find_photos
from tip_adapter.prompts import embed_classes, readable, resolve_templates
from tip_adapter.vectors import ClassEmbeddings, SupportSet, softmax

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from tip_adapter.encoders import Encoder
    from tip_adapter.photos.decode import PhotoLike
    from tip_adapter.photos.find import PhotoList

    Progress = Callable[[int, int], None]

LOO = "loo"


class FewShotClassifier:
    """A classifier from a few photos per class and the class names.

    Parameters
    ----------
    encoder : name of an encoder (see `tip-adapter encoders`), or an Encoder
    method : ``zero-shot``, ``tip-adapter`` or ``tip-adapter-f``
    tune : how alpha and beta are chosen: ``loo`` (leave-one-out), ``scale-free``, or a folder or list of validation
        photos; None for leave-one-out where at least half the classes with photos have two, else scale-free
    alpha, beta : float, a given pair: both, and then no `tune`
    templates : sentences with ``{}`` for the class name, or names of template sets; None for the encoder's own
    class_names : label → the name that the text encoder reads; None for the labels, underscores as spaces
    seed : int, of draws and of training
    device : None or ``cpu``, or ``cuda`` where ONNX Runtime has it
    threads : int, None for one per core

    Attributes
    ----------
    classes_ : (n_classes,) str array, sorted labels
    names_ : label → name
    support_ : SupportSet, the labelled photos as vectors
    choice_ : Choice, or None where the method has no alpha and beta
    estimator_ : the fitted method

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter import FewShotClassifier
    >>> dark, light = np.zeros((2, 32, 32, 3), np.uint8), np.full((2, 32, 32, 3), 255, np.uint8)
    >>> model = FewShotClassifier(encoder="toy").fit([*dark, *light], ["night", "night", "day", "day"])
    >>> print(*model.predict([light[0], dark[0]]))
    day night
    """

    def __init__(
        self,
        encoder: str | Encoder = "pocket",
        method: str = "tip-adapter",
        tune: str | os.PathLike[str] | None = None,
        alpha: float | None = None,
        beta: float | None = None,
        templates: Sequence[str] | None = None,
        class_names: Mapping[str, str] | None = None,
        seed: int = 0,
        device: str | None = None,
        threads: int | None = None,
    ) -> None:
        self.encoder = encoder
        self.method = method
        self.tune = tune
        self.alpha = alpha
        self.beta = beta
        self.templates = templates
        self.class_names = class_names
        self.seed = seed
        self.device = device
        self.threads = threads

    # ---- learning -------------------------------------------------------------------------------------------------

    def fit(self, images: Sequence[PhotoLike], labels: Sequence[str]) -> Self:
        """Learn from photos and their labels.

        Parameters
        ----------
        images : paths, PIL images or uint8 arrays
        labels : one text a photo

        Raises
        ------
        LabelError
            A label is not text, or there is another number of them than of photos.
        NothingReadable
            Not one photo could be read. A few unreadable ones are left out with a warning.
        UsageError
            `method`, `tune`, `alpha`, `beta` or `templates` make no sense (together).
        """
        if len(images) != len(labels):
            raise LabelError(f"{len(images)} images but {len(labels)} labels; give one label an image")
        texts = [_text_label(label) for label in labels]
        return self._fit_photos(images, texts, sorted(set(texts)), _image_ids(images), None)

    def fit_folder(
        self, folder: str | os.PathLike[str], shots: int | None = None, *, progress: Progress | None = None
    ) -> Self:
        """Learn from a folder of class folders, a split folder (its train part) or a list.

        Parameters
        ----------
        folder : path
        shots : int, photos per class, drawn by `seed`; None for all
        progress : called with (photos done, photos in all)

        Raises
        ------
        FolderError, LabelError
            As `find_labelled`. The others as `fit`.
        """
        photos = find_labelled(folder, part="train")
        if shots is not None:
            photos = draw(photos, shots, self.seed)
        _warn(photos.notes)
        return self._fit_photos(photos.paths, photos.labels, photos.classes, photos.ids(), progress)

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
            `method`, `tune`, `alpha`, `beta` or `templates` make no sense (together).
        """
        self._check_usage()
        self.support_ = support
        self.classes_ = np.array(sorted({*classes, *support.labels.tolist()}), dtype=np.str_)
        if len(self.classes_) == 1:
            _warn([f"there is one class only ({self.classes_[0]}): every photo will be called that"])
        self.names_ = self._names()
        self.templates_ = resolve_templates(self.templates or self.encoder_.record.templates)
        self.class_embeddings_ = embed_classes(self.names_, self.templates_, self.encoder_.encode_texts)
        estimator = self._new_estimator()
        validation = self._validation(progress)
        self.choice_ = self._choose(validation) if self._has_pair() else None
        self.estimator_ = estimator.set_params(**self._pair()).fit(support.vectors, support.labels)
        if validation is not None and estimator.learned():
            self._choose_again(validation)
        return self

    # ---- answering ------------------------------------------------------------------------------------------------

    def predict(self, images: Sequence[PhotoLike]) -> NDArray[np.str_]:
        """Labels of photos: (n,) str array. Raises PhotoError where one cannot be read."""
        winners = self.predict_proba(images).argmax(axis=1)
        return self.classes_[winners]

    def predict_proba(self, images: Sequence[PhotoLike]) -> NDArray[np.float32]:
        """Calibrated probabilities, (n, n_classes) in the order of `classes_`. Raises PhotoError as `predict`."""
        batch = encode_photos(images, self.encoder_, threads=self.threads)
        for error in batch.errors.values():
            raise error
        return self._probabilities(batch.vectors)

    def predict_folder(
        self, folder: str | os.PathLike[str], *, top: int = 5, min_score: float = 0.0
    ) -> list[dict[str, Any]]:
        """Name every photo of a folder, at any depth, or of a list.

        Parameters
        ----------
        folder : path
        top : int, how many of the likeliest classes a row lists
        min_score : float in [0, 1], below which the label is None: "none of these"

        Returns
        -------
        one record a photo: image, label, score (calibrated probability), top ([{label, score}]), error (or None)

        Raises
        ------
        FolderError
            There are no photos.
        """
        return list(self.predict_stream(find_photos(folder), top=top, min_score=min_score))

    def predict_stream(
        self, paths: Sequence[str | os.PathLike[str]], *, top: int = 5, min_score: float = 0.0
    ) -> Iterator[dict[str, Any]]:
        """Records as `predict_folder`'s, in order, as soon as a batch is done; an unreadable photo is one with `error`."""
        with closing(stream_vectors(paths, self.encoder_, threads=self.threads)) as stream:
            for batch in stream:
                scores = dict(zip(batch.positions.tolist(), self._probabilities(batch.vectors), strict=True))
                for position in sorted([*scores, *batch.errors]):
                    record: dict[str, Any] = {
                        "image": _text_path(paths[position]),
                        "label": None,
                        "score": None,
                        "top": [],
                        "error": None,
                    }
                    if position in scores:
                        yield record | self._answer(scores[position], top, min_score)
                    else:
                        yield record | {"error": str(batch.errors[position])}

    def evaluate_folder(self, folder: str | os.PathLike[str], *, progress: Progress | None = None) -> dict[str, Any]:
        """Score the classifier on labelled photos: a folder of class folders, a split folder (its test part) or a list.

        Returns
        -------
        accuracy, mean_per_class_accuracy, accuracy_interval (95 %), zero_shot_accuracy : fractions
        n_images : photos scored;  n_failed : photos that could not be read, outside all figures
        unknown_classes : labels that the model does not have; their photos count as wrong
        per_class : label → {accuracy, n}
        protocol, alpha, beta : how the pair was chosen, and it; None where the method has none
        seconds, images_per_second

        Raises
        ------
        FolderError, LabelError
            As `find_labelled`; LabelError also if the model knows none of the classes.
        NothingReadable
            Not one photo could be read.
        """
        started = time.perf_counter()
        photos = find_labelled(folder, part="test")
        _warn(photos.notes)
        self._refuse_all_unknown(photos)
        support, n_failed = self._encode(photos.paths, photos.labels, photos.ids(), progress)
        return self.evaluate_support(support, n_failed=n_failed, started=started)

    def evaluate_support(self, support: SupportSet, *, n_failed: int, started: float) -> dict[str, Any]:
        """`evaluate_folder`'s record for photos that are encoded already; `started` is a `time.perf_counter()`."""
        result = accuracy_of(support.labels, self.estimator_.predict(support.vectors))
        zero_shot = ZeroShotClassifier(self.class_embeddings_).fit(support.vectors[:0], support.labels[:0])
        seconds = time.perf_counter() - started
        return {
            "accuracy": result.accuracy,
            "mean_per_class_accuracy": result.mean_per_class,
            "accuracy_interval": list(result.interval),
            "zero_shot_accuracy": float((zero_shot.predict(support.vectors) == support.labels).mean()),
            "n_images": result.n,
            "n_failed": n_failed,
            "unknown_classes": sorted(set(result.per_class) - set(self.classes_.tolist())),
            "per_class": {label: {"accuracy": a, "n": n} for label, (a, n) in result.per_class.items()},
            "protocol": self.choice_.rule if self.choice_ else None,
            "alpha": self.choice_.alpha if self.choice_ else None,
            "beta": self.choice_.beta if self.choice_ else None,
            "seconds": seconds,
            "images_per_second": result.n / seconds,
        }

    # ---- keeping --------------------------------------------------------------------------------------------------

    def save(self, folder: str | os.PathLike[str], *, force: bool = False) -> None:
        """Write the model to a folder, whole or not at all.

        Raises
        ------
        OutputExists
            Something stands there and `force` is false.
        NotWritable
            With the system's reason; what was there before still is.
        """
        counts = Counter(self.support_.labels.tolist())
        config = {
            "tip_adapter": tip_adapter.__version__,
            "method": self.method,
            "parameters": self.estimator_.settings(),
            "seed": self.seed,
            "classes": [{"label": label, "name": name, "photos": counts[label]} for label, name in self.names_.items()],
            "photos": self.support_.ids.tolist(),
            "encoder": asdict(self.encoder_.identity),
            "logit_scale": float(self.encoder_.logit_scale),
            "templates": list(self.templates_),
            "choice": asdict(self.choice_) if self.choice_ else None,
        }
        arrays = {
            "class_embeddings": self.class_embeddings_.matrix,
            "support_vectors": self.support_.vectors,
            "support_labels": np.searchsorted(self.classes_, self.support_.labels),
            **{f"learned.{name}": array for name, array in self.estimator_.learned().items()},
        }
        write_bundle(folder, config, arrays, replace=force)

    @classmethod
    def load(
        cls, folder: str | os.PathLike[str], *, device: str | None = None, threads: int | None = None
    ) -> FewShotClassifier:
        """Read a model folder; predicting needs no text side.

        Raises
        ------
        BundleError
            There is no model, it is damaged, or it was made with another encoder.
        """
        config, arrays = read_bundle(folder)
        try:
            model = cls(
                config["encoder"]["name"], config["method"], seed=config["seed"], device=device, threads=threads
            )
            model._restore(config, arrays)
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            raise DamagedBundle(f"{folder} is damaged: {type(error).__name__} {error}") from error
        if asdict(model.encoder_.identity) != config["encoder"]:
            raise WrongEncoder(
                f"{folder} was made with another {config['encoder']['name']} (fingerprint "
                f"{config['encoder']['fingerprint'][:12]}…) than the one installed "
                f"({model.encoder_.identity.fingerprint[:12]}…); fit it again"
            )
        return model

    # ---- inside ---------------------------------------------------------------------------------------------------

    @cached_property
    def encoder_(self) -> Encoder:
        """The encoder, loaded when first needed."""
        if isinstance(self.encoder, str):
            return load_encoder(self.encoder, device=self.device, threads=self.threads)
        return self.encoder

    def _check_usage(self) -> None:
        given = [name for name in ("alpha", "beta", "tune") if getattr(self, name) is not None]
        if given and not self._has_pair():
            raise UsageError(f"{self.method} has no alpha and beta to choose; leave out {', '.join(given)}")
        if given not in ([], ["tune"], ["alpha", "beta"]):
            raise UsageError(f"got {' and '.join(given)}: give both alpha and beta and no tune, or neither")
        if (
            self.alpha is not None
            and self.beta is not None
            and not (0 <= self.alpha < np.inf and 0 < self.beta < np.inf)
        ):
            raise UsageError(f"alpha {self.alpha} must be at least 0 and beta {self.beta} above 0, both finite")

    def _has_pair(self) -> bool:
        return "alpha" in inspect.signature(method_class(self.method)).parameters

    def _fit_photos(
        self,
        images: Sequence[PhotoLike],
        labels: Sequence[str],
        classes: Sequence[str],
        ids: Sequence[str],
        progress: Progress | None,
    ) -> Self:
        self._check_usage()
        if not method_class(self.method).needs_photos:
            images, labels, ids = [], [], []
        support, _ = self._encode(images, labels, ids, progress)
        return self.fit_support(support, classes, progress=progress)

    def _encode(
        self, images: Sequence[PhotoLike], labels: Sequence[str], ids: Sequence[str], progress: Progress | None
    ) -> tuple[SupportSet, int]:
        return encode_labelled(images, labels, ids, self.encoder_, threads=self.threads, progress=progress)

    def _names(self) -> dict[str, str]:
        """Label → name, for every class; warns of names that the encoder's text side does not read."""
        given = self.class_names or {}
        names = {label: given.get(label, readable(label)) for label in self.classes_.tolist()}
        foreign = [name for name in names.values() if not self.encoder_.record.reads(name)]
        if foreign:
            _warn(
                [
                    f"{len(foreign)} class names are in a script that the encoder's text side does not know, such as "
                    f"{foreign[0]!r}; they are used as they are, and class names (--class-names) can translate them"
                ]
            )
        return names

    def _new_estimator(self) -> Any:
        method = method_class(self.method)
        offered = {
            "class_embeddings": self.class_embeddings_,
            "logit_scale": self.encoder_.logit_scale,
            "seed": self.seed,
        }
        return method(**{name: offered[name] for name in inspect.signature(method).parameters if name in offered})

    def _pair(self) -> dict[str, float]:
        return {"alpha": self.choice_.alpha, "beta": self.choice_.beta} if self.choice_ else {}

    def _validation(self, progress: Progress | None) -> SupportSet | None:
        """The validation photos, where `tune` names them."""
        if self.tune is None or self.tune in _RULES:
            return None
        photos = find_labelled(self.tune, part="val")
        self._refuse_all_unknown(photos)
        known = [row for row, label in enumerate(photos.labels) if label in self.classes_]
        if len(known) < len(photos):
            _warn([f"{len(photos) - len(known)} validation photos are of classes without support and are skipped"])
        photos = photos.take(known)
        support, _ = self._encode(photos.paths, photos.labels, photos.ids(), progress)
        return support

    def _choose(self, validation: SupportSet | None) -> Choice:
        support = support_of(
            self.support_.vectors, self.support_.labels, self.class_embeddings_, self.encoder_.logit_scale
        )
        if self.alpha is not None and self.beta is not None:
            return choose.fixed(support, self.alpha, self.beta)
        if validation is not None:
            return choose.on_validation(support, validation.vectors, self._positions(validation))
        counts = np.bincount(support.labels, minlength=1)
        if self.tune == LOO and counts.max() < 2:
            raise UsageError("leave-one-out needs a class with two photos; tune='scale-free' works from one")
        if self.tune == LOO or (self.tune is None and 0 < (counts > 0).sum() <= 2 * (counts > 1).sum()):
            alone = (counts == 1).sum()
            if alone:
                _warn([f"{alone} classes have one photo, which leave-one-out cannot score; the others decide"])
            return choose.leave_one_out(support)
        return choose.scale_free(support, self.encoder_.record.scale_free_ratio)

    def _choose_again(self, validation: SupportSet) -> None:
        """With learned keys and validation photos the pair is chosen once more, for these keys."""
        support = support_of(
            self.support_.vectors, self.support_.labels, self.class_embeddings_, self.encoder_.logit_scale
        )
        learned = replace(support, keys=self.estimator_.keys_)
        self.choice_ = choose.on_validation(learned, validation.vectors, self._positions(validation))
        self.estimator_.set_params(**self._pair())

    def _positions(self, support: SupportSet) -> NDArray[np.intp]:
        return np.searchsorted(self.classes_, support.labels)

    def _probabilities(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        logits = self.estimator_.logits(vectors)
        return np.asarray(softmax(logits / (self.choice_.temperature if self.choice_ else 1.0)), dtype=np.float32)

    def _answer(self, scores: NDArray[np.float32], top: int, min_score: float) -> dict[str, Any]:
        likeliest = np.argsort(-scores, kind="stable")
        listed = [{"label": str(self.classes_[c]), "score": float(scores[c])} for c in likeliest[:top]]
        best = likeliest[0]
        label = str(self.classes_[best]) if scores[best] >= min_score else None
        return {"label": label, "score": float(scores[best]), "top": listed}

    def _refuse_all_unknown(self, photos: PhotoList) -> None:
        if not set(photos.labels) & set(self.classes_.tolist()):
            known, found = ", ".join(self.classes_[:5]), ", ".join(photos.classes[:5])
            raise LabelError(f"the model knows none of these classes ({found}, …); it knows {known}, …")

    def _restore(self, config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        """Become the model that was saved; raises what a damaged record makes it trip over."""
        self.names_ = {entry["label"]: entry["name"] for entry in config["classes"]}
        self.classes_ = np.array(list(self.names_), dtype=np.str_)
        self.templates_ = tuple(config["templates"])
        self.class_embeddings_ = ClassEmbeddings(self.classes_, arrays["class_embeddings"])
        labels = self.classes_[arrays["support_labels"]]
        self.support_ = SupportSet(arrays["support_vectors"], labels, np.array(config["photos"], dtype=np.str_))
        self.choice_ = Choice(**config["choice"]) if config["choice"] else None
        learned = {name.removeprefix("learned."): a for name, a in arrays.items() if name.startswith("learned.")}
        estimator = self._new_estimator().set_params(**config["parameters"], **self._pair())
        self.estimator_ = estimator.restore(self.support_.vectors, labels, learned)


#: What `tune` may be beside a folder.
_RULES = (LOO, choose.SCALE_FREE)


def _text_label(label: Any) -> str:
    if not isinstance(label, str) or not label:
        raise LabelError(f"label {label!r} is no text; labels are class names, such as 'cat'")
    return unicodedata.normalize("NFC", label)


def _image_ids(images: Sequence[PhotoLike]) -> list[str]:
    """Paths as they are; other images by their position."""
    return [_text_path(image) if isinstance(image, (str, os.PathLike)) else f"#{i}" for i, image in enumerate(images)]


def _text_path(path: str | os.PathLike[str]) -> str:
    """A path as text: bytes that are not UTF-8 as escapes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _warn(notes: Iterable[str]) -> None:
    for note in notes:
        warnings.warn(note, TipAdapterWarning, stacklevel=3)
