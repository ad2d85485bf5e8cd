"""Trainings from the page: started from pictures that were sent, watched, stopped, continued."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException
from fastapi.requests import HTTPConnection
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict, Field

from sfumato.adapters.learned import Kind
from sfumato.errors import SfumatoError
from sfumato.server.composite import Composite
from sfumato.server.dialects.base import QueueOf, UserOf
from sfumato.server.jobs.job import JobRequest
from sfumato.server.trainings import training as files
from sfumato.server.trainings.offers import OFFERS, Hint, method_of, misfit, offered, proposed_steps
from sfumato.server.trainings.runner import Trainings
from sfumato.server.trainings.training import State, Training
from sfumato.train.registry import Method

router = APIRouter()
MOST_PICTURES = 1000
SAFE = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox",
    "X-Content-Type-Options": "nosniff",
}


def _trainings(connection: HTTPConnection) -> Trainings:
    return connection.app.state.trainings


TrainingsOf = Annotated[Trainings, Depends(_trainings)]


class Captioned(BaseModel):
    model_config = ConfigDict(extra="forbid")
    picture: str = Field(description="The name that POST /api/pictures gave.", max_length=80)
    caption: str = Field(min_length=1, max_length=2000)


class NewTraining(BaseModel):
    """Something to be learnt. `word` is a new word for what the pictures show, used like the known word `like`."""

    model_config = ConfigDict(extra="forbid")
    name: str = Field(description="The file's name, without ending: letters, digits, _ and -.")
    method: str = Field("lora", description="One that GET /api/trainings/methods lists.", max_length=40)
    kind: Kind = Field("lora", description="The kind of a LoRA's differences.")
    model: str | None = Field(None, description="The name of a model on this machine; else the server's own.")
    steps: int | None = Field(None, ge=1, le=100_000, description="By default those that the method proposes.")
    word: str = Field("", max_length=60)
    like: str = Field("", max_length=60)
    hint: Hint = Field("canny", description="What a ControlNet or a T2I-Adapter follows.")
    pictures: list[Captioned] = Field(min_length=1, max_length=MOST_PICTURES)


class TrainingView(BaseModel):
    """A training as it stands. `curves` are (step, value) of losses; `says` is what the trainer said last.

    `samples` are the addresses of sheets of pictures by the step. `result` is the kind of what is learnt, as GET
    /api/models calls kinds, and `file` its name there once it is done.
    """

    id: str
    name: str
    method: str
    result: str
    hint: str
    kind: str
    model: str
    word: str
    state: State
    step: int
    steps: int
    pictures: int
    created: float
    curves: dict[str, list[tuple[int, float]]]
    says: str
    samples: dict[int, str]
    report: str | None
    file: str | None


def _view(trainings: Trainings, one: Training) -> TrainingView:
    one = trainings.settle(one)
    folder = trainings.place(one.id)
    curves = files.curves(folder)
    state = files.state_of(one, folder, trainings.running() == one.id)
    lines = files.told(folder)[-8 if state == "failed" else -1 :]
    address = f"/api/trainings/{one.id}"
    return TrainingView(
        id=one.id, name=one.name, method=one.method, result=one.how.result, hint=one.hint, kind=one.kind,
        model=one.model, word=one.word, state=state,
        step=max((step for step, _ in curves["loss"]), default=0), steps=one.steps, pictures=one.pictures,
        created=one.created, curves=curves, says=one.problem or "\n".join(lines),
        samples={step: f"{address}/samples/{step}" for step in files.samples(folder)},
        report=f"{address}/report" if files.report_of(folder).is_file() else None, file=one.file,
    )  # fmt: skip


class MethodView(BaseModel):
    """A method that a training may have. `learns` and `result` say what is trained, and which kind of file comes of it.

    `required` are what it asks for besides a name, pictures with captions and steps, `optional` what may be given.
    `misfit` is empty, or says why the model cannot be trained so.
    """

    name: str
    learns: str
    result: str
    steps: int
    required: tuple[str, ...]
    optional: tuple[str, ...]
    misfit: str


def _find(trainings: Trainings, training: str, user: str) -> Training:
    try:
        return trainings.get(training, user)
    except KeyError:
        raise HTTPException(404, f"there is no training {training[:64]!r}") from None


@router.get("/trainings")
async def list_trainings(queue: QueueOf, user: UserOf, trainings: TrainingsOf) -> list[TrainingView]:
    """The trainings, newest first."""
    return await queue.in_background(lambda: [_view(trainings, one) for one in trainings.of(user)])


@router.get("/trainings/methods")
async def list_methods(queue: QueueOf, model: str | None = None) -> list[MethodView]:
    """The methods by which a model can be trained on pictures; by default the server's own model."""
    model = model or queue.default_model
    await queue.checked(JobRequest(model=model))
    spec = await queue.in_background(queue.desk.spec, model)
    return [
        MethodView(
            name=one.name, learns=one.learns, result=one.result, steps=proposed_steps(one),
            required=OFFERS[one.name].required, optional=OFFERS[one.name].optional, misfit=misfit(one, spec),
        )
        for one in offered()
    ]  # fmt: skip


@router.post("/trainings", status_code=201)
async def start_training(new: NewTraining, queue: QueueOf, user: UserOf, trainings: TrainingsOf) -> TrainingView:
    """Learn something of pictures, beside the drawing and at low priority; one training runs at a time."""
    method = _asked(new)
    model = new.model or queue.default_model
    if Composite.of(model).further:
        raise SfumatoError("a training takes a model as its file is; give a model's name alone")
    await queue.checked(JobRequest(model=model))
    if lacking := misfit(method, await queue.in_background(queue.desk.spec, model)):
        raise SfumatoError(f"{model} {lacking}, so {method.name} cannot train it; choose another model or method")
    asked = Training(
        id="", user=user, name=new.name, method=new.method, kind=new.kind, model=model, pictures=len(new.pictures),
        steps=new.steps or proposed_steps(method), created=0, word=new.word, like=new.like, hint=new.hint,
    )  # fmt: skip

    def begin() -> TrainingView:
        pictures = [(queue.inputs.path(one.picture), one.caption) for one in new.pictures]
        if missing := [name.name[:8] for name, _ in pictures if not name.is_file()]:
            raise SfumatoError(f"{len(missing)} of the pictures are not here any more; send them again")
        return _view(trainings, trainings.begin(asked, pictures))

    return await queue.in_background(begin)


def _asked(new: NewTraining) -> Method:
    """The method of a request. Raises SfumatoError for one that is not offered, and for what it lacks or cannot use."""
    try:
        method = method_of(new.method)
    except KeyError:
        names = ", ".join(one.name for one in offered())
        raise SfumatoError(f"{new.method!r} is no method that a server trains by; give one of {names}") from None
    offer = OFFERS[method.name]
    if missing := [name for name in offer.required if not getattr(new, name).strip()]:
        raise SfumatoError(f"{method.name} needs {' and '.join(missing)}; see GET /api/trainings/methods")
    given = new.model_fields_set & {"kind", "word", "like", "hint"} - {*offer.required, *offer.optional}
    if useless := sorted(name for name in given if getattr(new, name) != NewTraining.model_fields[name].default):
        raise SfumatoError(f"{method.name} has no use for {' and '.join(useless)}; leave that out")
    if "word" in offer.optional and bool(new.word) != bool(new.like):
        raise SfumatoError("word and like belong together: a new word, and a known one that is used like it")
    return method


@router.post("/trainings/{training}/stop")
async def stop_training(training: str, queue: QueueOf, user: UserOf, trainings: TrainingsOf) -> TrainingView:
    """Have a training end after its step, with a checkpoint."""

    def stop() -> TrainingView:
        found = _find(trainings, training, user)
        trainings.stop(found.id)
        return _view(trainings, found)

    return await queue.in_background(stop)


@router.post("/trainings/{training}/resume")
async def resume_training(training: str, queue: QueueOf, user: UserOf, trainings: TrainingsOf) -> TrainingView:
    """Go on with a training that was stopped, from its last checkpoint."""

    def resume() -> TrainingView:
        found = _find(trainings, training, user)
        trainings.resume(found)
        return _view(trainings, trainings.get(training, user))

    return await queue.in_background(resume)


@router.delete("/trainings/{training}", status_code=204)
async def forget_training(training: str, queue: QueueOf, user: UserOf, trainings: TrainingsOf) -> None:
    """Remove a training and its files. The result of one that is done stays."""
    await queue.in_background(lambda: trainings.forget(_find(trainings, training, user)))


@router.get("/trainings/{training}/samples/{step}", response_class=FileResponse)
async def get_sample(training: str, step: int, queue: QueueOf, user: UserOf, trainings: TrainingsOf) -> FileResponse:
    """The sheet of pictures that was drawn after a step."""
    found = await queue.in_background(_find, trainings, training, user)
    path = files.sample_of(trainings.place(found.id), step)
    if not path.is_file():
        raise HTTPException(404, f"there is no sheet of step {step}")
    return FileResponse(path, media_type="image/png")


@router.get("/trainings/{training}/report", response_class=FileResponse)
async def get_report(training: str, queue: QueueOf, user: UserOf, trainings: TrainingsOf) -> FileResponse:
    """The report of a training that is done: curves, figures, sheets, settings."""
    found = await queue.in_background(_find, trainings, training, user)
    path = files.report_of(trainings.place(found.id))
    if not path.is_file():
        raise HTTPException(404, "there is no report before the training is done")
    return FileResponse(path, media_type="text/html; charset=utf-8", headers=SAFE)
