"""The aggregator makes version 0 of such a run from a file, without LiteRT."""

import numpy as np
import pytest

from services.aggregator.adapters.sql import open_journal
from services.aggregator.keeper import Keeper, SnapshotPolicy
from services.hosting.errors import NotReady
from tinyfleet.errors import InvalidInput
from tinyfleet.model import ModelSpec
from tinyfleet.model.layers import Tensor
from tinyfleet.model.spec import parameters_sha256
from tinyfleet.model.trainable import TrainableGraph
from tinyfleet.run import make_run
from tinyfleet.run_files import file_of, parts_of_file
from tinyfleet.tasks import make_task
from tinyfleet.telemetry import NoTelemetry
from tinyfleet.wire import parameters_to_bytes

CONTENT = b"what is in it is not the aggregator's business"
WEIGHTS = np.linspace(-1, 1, 5).astype(np.float32)


def run_of(weights):
    graph = TrainableGraph(
        file_of(CONTENT).sha256, len(CONTENT), parameters_sha256(weights), ("a", "b")
    )
    model = ModelSpec("file", (1, 1, 1), (Tensor(2, 1), Tensor(3, 1)), "mean_squared_error")
    return make_run(make_task("sine", {}), "tiny_reptile", 10, 1, model, trainable=graph)


async def parts(content):
    for part in parts_of_file(content):
        yield part


async def put(keeper, content):
    await keeper.files.put(file_of(content), parts(content))


@pytest.fixture
async def keeper(tmp_path):
    made = Keeper(open_journal(tmp_path), SnapshotPolicy(100, 1 << 20), NoTelemetry())
    yield made
    await made.close()


async def test_version_0_is_the_file_of_weights_to_the_bit(keeper):
    await put(keeper, CONTENT)
    await put(keeper, parameters_to_bytes(WEIGHTS))
    await keeper.open_run("r", run_of(WEIGHTS))
    model = await keeper.model("r", 0)
    assert model.parameters.tobytes() == WEIGHTS.tobytes()


@pytest.mark.parametrize("there", [[], [CONTENT], [parameters_to_bytes(WEIGHTS)]])
async def test_a_run_whose_files_are_not_all_there_is_not_opened(keeper, there):
    for content in there:
        await put(keeper, content)
    with pytest.raises(NotReady, match="the run needs the file"):
        await keeper.open_run("r", run_of(WEIGHTS))
    for content in (CONTENT, parameters_to_bytes(WEIGHTS)):
        if content not in there:
            await put(keeper, content)
    await keeper.open_run("r", run_of(WEIGHTS))


async def test_weights_that_are_no_numbers_start_no_run(keeper):
    bad = WEIGHTS.copy()
    bad[2] = np.nan
    await put(keeper, CONTENT)
    await put(keeper, parameters_to_bytes(bad))
    with pytest.raises(InvalidInput, match="not finite"):
        await keeper.open_run("r", run_of(bad))
