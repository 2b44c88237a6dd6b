"""`tinyfleet export`: a checkpoint's model as a file that needs nothing of TinyFleet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tinyfleet.checkpoint import load_checkpoint
from tinyfleet.cli.console import examples, json_option, note, print_json, si_bytes, wrapped
from tinyfleet.cli.extractors import ExtractorFile, extractor_option, in_front_of_the_model
from tinyfleet.cli.options import data_option
from tinyfleet.cli.outcome import model_document
from tinyfleet.errors import Diverged, InvalidInput
from tinyfleet.evaluation.adaptation import EvaluationSettings, adapt
from tinyfleet.export.formats import FORMATS, Exported, Order, export
from tinyfleet.export.front import Front
from tinyfleet.export.quality import MAX_DROP, MAX_ERROR
from tinyfleet.export.rehearsal import make_rehearsal
from tinyfleet.export.samples import (
    Material,
    load_inputs,
    load_samples,
    load_test,
    task_inputs,
)
from tinyfleet.files import write_whole
from tinyfleet.learner import make_learner
from tinyfleet.learner.protocol import Learner, Samples
from tinyfleet.model.spec import Parameters, parameters_sha256
from tinyfleet.randomness import Purpose, RandomStream
from tinyfleet.run import RunSpec, check_fits
from tinyfleet.tasks import Task, make_task, outline_task

_FILE = click.Path(path_type=Path)
_LOSSES = {
    "accuracy_drop_points": "accuracy lost by int8: {:.2f} points",
    "answers_changed_percent": "answers changed by int8: {:.2f} %",
    "error_percent": "int8 is off by {:.2f} % of the outputs' spread",
}
_ONLY_FOR = {
    "float_io": ("tflite-int8",),
    "name": ("c-header",),
    "probabilities": ("tflite", "tflite-int8", "c-header"),
}
_UNADAPTED = (
    "this is the model as it was trained: if it is an initialization for few-shot learning, adapt "
    "it to the samples of its device with --support FILE.npz"
)
_NEXT = {
    "tflite": "next: tinyfleet infer {file} --inputs FILE.npz, or see docs/guides/export.md",
    "tflite-int8": "next: tinyfleet infer {file} --inputs FILE.npz, or see docs/guides/export.md",
    "c-header": "next: #include it; docs/guides/export.md has a main() to begin with",
    "npz": "next: numpy.load('{file}'); docs/guides/export.md says what is in it",
}


@click.command(
    "export",
    epilog=examples(
        "tinyfleet export model.tinyfleet --format tflite --out model.tflite",
        "tinyfleet export model.tinyfleet --support mine.npz --format tflite-int8 --out m.tflite",
        "tinyfleet export model.tinyfleet --format c-header --support mine.npz --out mine.h",
    ),
)
@click.argument("checkpoint", type=_FILE)
@click.option(
    "--format",
    "form",
    type=click.Choice(list(FORMATS)),
    default="tflite",
    help="LiteRT in float32 or int8, a C99 header, or NumPy arrays.",
)
@click.option("--out", type=_FILE, required=True, help="File to write.")
@click.option(
    "--support",
    type=_FILE,
    metavar="FILE.npz",
    help="Adapt to these samples first, in a shuffled order: arrays inputs, and labels or targets.",
)
@click.option("--rate", type=float, metavar="NUMBER", help="Of adapting. [default: the task's]")
@click.option("--passes", type=int, metavar="N", help="Over the support. [default: the task's]")
@click.option("--last-layers", type=int, default=0, metavar="N", help="That adapt; 0: all of them.")
@click.option(
    "--calibration",
    type=_FILE,
    metavar="FILE.npz",
    help="Samples that set the ranges of int8 values: array inputs. "
    "[default: the task's, or the support]",
)
@click.option(
    "--test",
    type=_FILE,
    metavar="FILE.npz",
    help="Samples to compare with the learner on, like --support. "
    "[default: what sets the ranges, or made-up ones]",
)
@data_option
@extractor_option
@click.option(
    "--probabilities",
    is_flag=True,
    help="End in a softmax; otherwise a classifier puts out logits, as the learner does.",
)
@click.option(
    "--float-io",
    is_flag=True,
    help="tflite-int8: take and give float32, converted in the file; otherwise int8.",
)
@click.option("--name", help="c-header: what its names begin with. [default: the model's]")
@click.option(
    "--max-drop", type=float, default=MAX_DROP, help="tflite-int8: points of accuracy it may lose."
)
@click.option(
    "--max-error",
    type=float,
    default=MAX_ERROR,
    help="tflite-int8: percent of the outputs' spread that a regression may be off by.",
)
@json_option
def command(
    checkpoint: Path,
    form: str,
    out: Path,
    support: Path | None,
    rate: float | None,
    passes: int | None,
    last_layers: int,
    calibration: Path | None,
    test: Path | None,
    data: Path | None,
    extractor: Path | None,
    as_json: bool,
    **wishes: Any,
) -> None:
    """Write the model of CHECKPOINT as a file that needs nothing of TinyFleet.

    The file is run and compared with the learner before it is kept: float32 must agree within 1e-5
    (absolute and relative), int8 may lose what --max-drop and --max-error say. Otherwise nothing is
    written. A model that was learned behind an extractor becomes one .tflite with it (a header and
    arrays are of the model alone). An initialization for few-shot learning is of use only once it
    is adapted: --support.
    """
    chosen = {"rate": rate, "passes": passes, "last_layers": last_layers or None}
    _check_flags(form, chosen, support, wishes)
    known = load_checkpoint(checkpoint)
    run, learner, parameters = known.run, make_learner(known.run.model), known.parameters
    given = ExtractorFile(extractor) if extractor else None
    front = _front(in_front_of_the_model(run.extractor, given), wishes["float_io"])
    values = run.sample_shape.inputs
    learned = load_samples(support, values, run.model) if support else None
    right = None
    if learned is not None:
        learned_features = Samples(front.features(learned.inputs), learned.targets)
        parameters = _adapted(learner, parameters, learned_features, run, chosen)
        right = _right(learner, parameters, learned_features)
    task = _task(run, data)
    material = Material(
        values,
        load_inputs(calibration, values) if calibration else None,
        learned,
        load_test(test, values, run.model) if test else None,
        None if task is None else task_inputs(run, task),
    )
    inputs, targets = material.to_compare()
    seen = given.in_front_of(task) if given and task else task
    rehearsal = make_rehearsal(seen, known.parameters) if seen and not test else None
    order = Order(
        learner, parameters, inputs, targets, material.for_ranges(), rehearsal, front, **wishes
    )
    exported = export(order, form)
    _write(out, exported.content)
    document = {
        "file": str(out),
        "format": form,
        "bytes": len(exported.content),
        "model": model_document(run.model),
        "run_id": known.run_id,
        "version": known.version,
        "classifier": run.model.loss == "softmax_cross_entropy",
        "adapted_samples": 0 if learned is None else len(learned),
        "support_accuracy": right,
        **_findings(order, exported),
        "parameters_sha256": parameters_sha256(parameters),
    }
    if as_json:
        print_json(document)
    else:
        _print(document)


def _check_flags(
    form: str, chosen: dict[str, Any], support: Path | None, wishes: dict[str, Any]
) -> None:
    """Raise InvalidInput for a flag that would have no effect."""
    if support is None and any(value is not None for value in chosen.values()):
        raise InvalidInput("--rate, --passes and --last-layers say how to adapt: give --support")
    for flag, formats in _ONLY_FOR.items():
        if wishes[flag] and form not in formats:
            named = f"--{flag.replace('_', '-')}"
            raise InvalidInput(f"{named} is for --format {' or '.join(formats)}, not {form}")


def _front(extractor: ExtractorFile | None, float_io: bool) -> Front:
    """What the model is exported with."""
    if extractor is None:
        return Front()
    if float_io:
        raise InvalidInput("--float-io: behind an extractor the ends are as the extractor's input")
    return Front(extractor.file)


def _adapted(
    learner: Learner,
    parameters: Parameters,
    support: Samples,
    run: RunSpec,
    chosen: dict[str, Any],
) -> Parameters:
    """The parameters after learning the support set online, as an evaluation does.

    In an order drawn from the seed: files list class after class, and who learns so, one sample at
    a time, knows the last one only.
    """
    settings = _settings(run, {name: value for name, value in chosen.items() if value is not None})
    order = RandomStream(settings.seed, Purpose.SUPPORT_ORDER).permutation(len(support))
    seen = Samples(support.inputs[order], support.targets[order])
    adapted = parameters.copy()
    if not adapt(learner, adapted, seen, settings, settings.passes):
        raise Diverged("adapting to the support set diverged: try a lower --rate")
    return adapted


def _right(learner: Learner, parameters: Parameters, support: Samples) -> float | None:
    """Part of the support set that a classifier gets right; None for a regression."""
    if learner.spec.loss != "softmax_cross_entropy":
        return None
    answers = learner.predict(parameters, support.inputs).argmax(axis=1)
    return float((answers == support.targets.argmax(axis=1)).mean())


def _settings(run: RunSpec, chosen: dict[str, Any]) -> EvaluationSettings:
    """What the task recommends, with the user's choices over it."""
    try:
        recommended = dict(outline_task(run.task, run.task_options).recommended_evaluation)
    except InvalidInput:
        recommended = {}  # a task of somebody else's program
    return EvaluationSettings(**recommended | chosen)


def _task(run: RunSpec, data: Path | None) -> Task | None:
    """The run's task, where its samples can be had: it makes its own, or they were given."""
    try:
        task = make_task(run.task, run.task_options, data)
        check_fits(task, run)
    except InvalidInput:
        if data is not None:
            raise
        return None
    return task


def _write(path: Path, content: bytes) -> None:
    try:
        write_whole(path, content)
    except OSError as error:
        raise InvalidInput(f"cannot write {path}: {error.strerror}") from None


def _findings(order: Order, exported: Exported) -> dict[str, Any]:
    """What the comparison with the learner came to."""
    findings = {"samples": len(order.inputs), "largest_difference": exported.difference}
    if exported.quality is None:
        return findings
    quality = exported.quality
    return findings | {
        "accuracy_drop_points": quality.drop,
        "answers_changed_percent": quality.changed,
        "error_percent": quality.error,
    }


def _print(document: dict[str, Any]) -> None:
    """The same for people, and what to do next."""
    model, size = document["model"], si_bytes(document["bytes"])
    print(f"{document['file']}: {model['name']}, {document['format']}, {size}")
    if document["support_accuracy"] is not None:
        right, count = document["support_accuracy"], document["adapted_samples"]
        print(f"adapted to {count:,} samples, {100 * right:.0f} % of which it gets right")
    compared = f"on {document['samples']:,} samples"
    print(f"largest difference from the learner {document['largest_difference']:.3g} {compared}")
    for key, words in _LOSSES.items():
        if document.get(key) is not None:
            print(words.format(document[key]))
    if not document["adapted_samples"] and document["classifier"]:
        note(wrapped(_UNADAPTED))
    print(_NEXT[document["format"]].format(file=document["file"]))
