"""What a message describes is what was put into it."""

from dataclasses import replace

from tinyfleet.run import make_run
from tinyfleet.tasks import make_task
from tinyfleet.v1 import model_pb2
from tinyfleet.wire import run_from_message, run_to_message


def test_run_comes_back_from_its_message_with_whole_numbers_as_such() -> None:
    run = make_run(make_task("sine", {}), "tiny_reptile", rounds=7, seed=2**62 + 1)
    run = replace(run, task_options={"ways": 5, "rotations": True, "noise": 0.25})
    message = model_pb2.RunSpec.FromString(run_to_message(run).SerializeToString())
    back = run_from_message(message)
    assert back == run
    assert [type(value) for value in back.task_options.values()].count(int) == 1
