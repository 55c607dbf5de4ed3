"""What requests and answers about projects contain, for their description as OpenAPI."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field, model_validator

from tip_adapter.validation import MAX_TEXT

_ID = r"^[0-9a-f-]{36}$"
Id = Annotated[str, Path(pattern=_ID, description="A UUID that the client makes")]
BodyId = Annotated[str, Field(pattern=_ID)]
Text = Annotated[str, Field(min_length=1, max_length=MAX_TEXT)]


class _Given(BaseModel):
    """A body; an unknown name is refused, since it may be a known one misspelled."""

    model_config = ConfigDict(extra="forbid", strict=True)


class ProjectBody(_Given):
    """A project to add, or its new name."""

    name: Text


class ClassBody(_Given):
    """A class to add: its label, and the name that the text encoder reads if that is another."""

    label: Text
    name: Text | None = None


class ClassChanges(_Given):
    """What to change of a class."""

    label: Text | None = None
    name: Text | None = None
    enabled: bool | None = None


class Move(_Given):
    """The class that a photo is given."""

    class_id: BodyId


class Verdict(_Given):
    """The class that a photo of the collection is of, or one that it is not of."""

    class_id: BodyId | None = None
    not_class_id: BodyId | None = None

    @model_validator(mode="after")
    def _one(self) -> Verdict:
        if (self.class_id is None) == (self.not_class_id is None):
            raise ValueError("give class_id or not_class_id, and not both")
        return self


class Page(BaseModel):
    """Which part of a list is wanted."""

    model_config = ConfigDict(extra="forbid")

    offset: int = Field(0, ge=0, le=2**31)
    limit: int = Field(100, ge=1, le=300)


class ExamplesPage(Page):
    """Which examples are wanted."""

    class_id: str | None = Field(None, pattern=_ID, description="Of this class only")


class CollectionPage(Page):
    """Which photos of the collection are wanted, and in which order."""

    class_id: str | None = Field(None, pattern=_ID, description="Class by whose score they are sorted")
    order: Literal["certain", "uncertain"] = "certain"
    state: Literal["open", "labelled", "all"] = "open"


class Training(_Given):
    """How long to fine-tune."""

    epochs: int = Field(20, ge=1, le=100, description="Passes over the photos; the paper has 20")


class ExportQuery(BaseModel):
    """What a project is exported as."""

    model_config = ConfigDict(extra="forbid")

    format: Literal["project", "model", "onnx"] = "project"


class PhotoQuery(BaseModel):
    """The name of a photo that is the body."""

    model_config = ConfigDict(extra="forbid")

    filename: str = Field("", max_length=4096)


class OfClass(BaseModel):
    """The class of photos."""

    model_config = ConfigDict(extra="forbid")

    class_id: str = Field(pattern=_ID)


class ExampleQuery(PhotoQuery, OfClass):
    """The class and the name of a photo that is the body."""


# ---- answers ---------------------------------------------------------------------------------------------------------


class ClassAnswer(BaseModel):
    """A class."""

    id: str
    label: str
    name: str
    enabled: bool
    n_examples: int
    is_none: bool


class ProjectSummary(BaseModel):
    """A project in the list of all."""

    id: str
    name: str
    encoder: str
    created: str
    version: int
    n_classes: int
    n_examples: int
    n_collection: int


class ProjectList(BaseModel):
    """All projects."""

    projects: list[ProjectSummary]


class ProjectAnswer(ProjectSummary):
    """A project with its classes, what was chosen, and what is done in the background."""

    classes: list[ClassAnswer]
    settings: dict[str, Any]
    jobs: dict[str, Any]
    can_undo: bool


class ClassChanged(BaseModel):
    """A class, and the version that it is of."""

    version: int
    class_: ClassAnswer = Field(alias="class")


class ExampleAnswer(BaseModel):
    """A photo that was learned."""

    id: str
    class_id: str
    filename: str
    added: str
    origin: Literal["upload", "collection"]


class ExampleChanged(BaseModel):
    """A photo, and the id of the same photo under another id, if it was there already: then that is the example."""

    version: int
    example: ExampleAnswer
    duplicate_of: str | None = None


class AddedExample(ExampleAnswer):
    """A photo of a form, and its id if it was there already: then that is the example, in whatever class it is."""

    duplicate_of: str | None = None


class ExamplesAdded(BaseModel):
    """The photos of a form, and why some of them are not examples."""

    version: int
    examples: list[AddedExample]
    errors: list[dict[str, str]]


class Examples(BaseModel):
    """A part of the examples."""

    version: int
    total: int
    examples: list[ExampleAnswer]


class CollectedPhoto(BaseModel):
    """A photo of the collection: the class predicted, and the one given."""

    id: str
    filename: str
    score: float | None
    label: str | None
    label_score: float | None
    class_id: str | None
    error: str | None


class Collection(BaseModel):
    """A part of the collection."""

    version: int
    total: int
    n_pending: int
    n_failed: int
    photos: list[CollectedPhoto]


class CollectedChanged(BaseModel):
    """A photo of the collection after its label changed, and the id of the same photo among the examples that it replaces."""

    version: int
    photo: CollectedPhoto
    duplicate_of: str | None = None


class Queued(BaseModel):
    """A photo that is encoded in the background; the id of the same photo if it was there already."""

    queued: bool
    duplicate_of: str | None = None


class Report(BaseModel):
    """How good a project is."""

    version: int
    n_examples: int
    accuracy: dict[str, float] | None
    per_class: list[dict[str, Any]]
    confusion: dict[str, Any]
    suspicious: list[dict[str, Any]]
    near_duplicates: list[list[str]]
    needs_photos: list[str]
    note: str


class Measured(BaseModel):
    """Accuracy on n photos that were held out, and its 95 % interval."""

    accuracy: float
    low: float
    high: float
    n: int


class FineTuning(BaseModel):
    """A fine-tuning: its progress in epochs of all trainings, and the default method and its own measured on the same photos."""

    state: Literal["running", "done", "accepted", "outdated", "cancelled", "failed"]
    epoch: int
    epochs: int
    started_version: int
    before: Measured | None
    after: Measured | None
    n_better: int | None
    n_worse: int | None
    verdict: Literal["better", "worse", "no_difference"] | None
    note: str
    code: Literal["interrupted", "internal_error"] | None


class FineTuningChanged(BaseModel):
    """A fine-tuning, and the version of the project."""

    version: int
    fine_tuning: FineTuning


class Undone(BaseModel):
    """What was taken back."""

    version: int
    undone: str
    can_undo: bool


class ProjectPredictions(BaseModel):
    """One record per photo, as POST /v1/classify answers, and the version that answered."""

    version: int
    predictions: list[dict[str, Any]]
