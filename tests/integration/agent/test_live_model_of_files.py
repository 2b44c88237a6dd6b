"""The live model of a run that needs a file: behind its extractor, or the file that it is."""

import asyncio

import numpy as np
from agent_fleet import PLAN, RUN, fleet
from test_extractors import CONTENT, behind
from test_extractors import expected as behind_expected
from test_live_model import ask, said_where
from test_trainable import DESCRIBED, SINE_FILE, a_run
from test_trainable import expected as file_expected

from tinyfleet.learner import make_learner
from tinyfleet.litert.file import TfliteFile
from tinyfleet.litert.graph import Graph
from tinyfleet.litert.learner import LiteRtLearner
from tinyfleet.model.spec import parameters_sha256
from tinyfleet.run_files import file_of

ROWS = np.linspace(-3, 3, 16, dtype=np.float32)[:, np.newaxis]


async def answer(tmp_path, caplog, spec, content, start):
    caplog.set_level("INFO", "prediction")
    async with fleet(models=tmp_path, predict="127.0.0.1:0") as f:
        f.aggregator.files[file_of(content).sha256] = content
        visit = await f.visit()
        visit.brief(RUN, spec)
        visit.assign(RUN, 3, PLAN, start)
        await f.update()
        return await asyncio.to_thread(ask, await said_where(caplog))


async def test_a_model_behind_an_extractor_answers_raw_samples(tmp_path, caplog) -> None:
    spec = behind()
    start = spec.initial_parameters()
    answered = await answer(tmp_path, caplog, spec, CONTENT, start)
    trained = start + behind_expected(spec, 3)
    features = Graph(TfliteFile(CONTENT))(ROWS)
    expected = make_learner(spec.model).predict(trained, features)
    np.testing.assert_allclose(answered.outputs, expected, rtol=1e-5, atol=1e-6)
    assert answered.version.model == "mlp_32"


async def test_a_file_that_is_the_model_answers(tmp_path, caplog) -> None:
    spec = a_run()
    answered = await answer(tmp_path, caplog, spec, SINE_FILE.content, DESCRIBED.initial)
    trained = DESCRIBED.initial + file_expected(spec, 3)
    expected = LiteRtLearner(spec.model, spec.trainable, SINE_FILE).predict(trained, ROWS)
    np.testing.assert_allclose(answered.outputs, expected, rtol=1e-4, atol=1e-5)
    assert answered.version.parameters_sha256 != parameters_sha256(DESCRIBED.initial)
