"""Every kind of plot is drawn as a PNG file from real results."""

import math
from typing import ClassVar

import numpy as np
import pytest

from tinyfleet.evaluation import EvaluationSettings, evaluate
from tinyfleet.learner import make_learner
from tinyfleet.learner.protocol import Samples
from tinyfleet.model import builtin_model, initial_parameters
from tinyfleet.tasks import FewShotProblem, make_task

pytestmark = pytest.mark.needs_package("matplotlib", module="matplotlib")


class Stripes:
    """Tell horizontal from vertical stripes."""

    name = "stripes"
    default_model = "cnn_s"
    recommended: ClassVar[dict] = {}
    recommended_evaluation: ClassVar[dict] = {"shots": 2, "queries": 3, "passes": 2, "rate": 0.01}
    options: ClassVar[dict] = {}
    input_shape = (28, 28, 1)
    outputs = 2
    loss = "softmax_cross_entropy"
    test_samples = None

    def training_samples(self, stream, count):
        return self._samples(stream, count)

    def evaluation_problem(self, stream, shots, queries):
        parts = (self._samples(stream, 2 * count) for count in (shots, queries))
        return FewShotProblem(*parts)

    def _samples(self, stream, count):
        image = np.zeros((count, 28, 28), np.float32)
        image[0::2, 5] = image[1::2, :, 5] = stream.uniform(1)[0]
        labels = np.arange(count) % 2
        return Samples(image.reshape(count, 784), np.eye(2, dtype=np.float32)[labels])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "model", "looks"),
    [(make_task("sine", {}), "mlp_32", "adapted_fits"), (Stripes(), "cnn_s", "adapted_images")],
)
def test_a_report_has_its_curves_and_a_look_at_problems(tmp_path, task, model, looks):
    from tinyfleet.reports.plots import draw_report

    spec = builtin_model(model, task.input_shape, task.outputs, task.loss)
    learner, parameters = make_learner(spec), initial_parameters(spec, 1)
    evaluation = evaluate(learner, parameters, task, EvaluationSettings.for_task(task, tasks=4))
    losses, tests = [(0.5, 3.0), (1.5, 2.0)], [(1, evaluation), (2, evaluation)]
    files = draw_report(tmp_path, task, learner, parameters, evaluation, losses, tests)
    assert [file.stem for file in files] == ["learning_curve", "adaptation", looks, "report"]
    for file in files:
        data = file.read_bytes()
        assert data.startswith(b"\x89PNG")
        width, height = (int.from_bytes(data[at : at + 4], "big") for at in (16, 20))
        assert min(width, height) > 200


def test_a_run_whose_every_adaptation_diverged_can_be_drawn(tmp_path):
    from tinyfleet.reports.plots import draw_report

    task = make_task("sine", {})
    spec = builtin_model("mlp_32", task.input_shape, task.outputs, task.loss)
    learner, parameters = make_learner(spec), initial_parameters(spec, 1)
    settings = EvaluationSettings.for_task(task, tasks=2, rate=10.0)
    evaluation = evaluate(learner, parameters, task, settings)
    assert math.isnan(evaluation.after.loss)
    assert draw_report(tmp_path, task, learner, parameters, evaluation, [], [])
