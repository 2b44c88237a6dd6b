"""What an agent left out of its updates is kept by run, bounded, and given back when refused."""

import numpy as np

from edge_agents.uploads import MAX_RESIDUALS, LeftOut, SlotUpload
from tinyfleet.exchange import Exchange
from tinyfleet.model import builtin_model
from tinyfleet.model.spec import Parameters
from tinyfleet.strategies import Phase, TrainingPlan, Upload

MODEL = builtin_model("mlp_32", (1, 1, 1), 1, "mean_squared_error")


def exchange_with(error_feedback: bool = True, *local: str) -> Exchange:
    upload = Upload(0.1, "int8", error_feedback)
    return Exchange(MODEL, TrainingPlan((Phase(1, 0.1),), local, upload))


EXCHANGE = exchange_with()


def a_change(seed: int = 1) -> Parameters:
    return np.random.default_rng(seed).standard_normal(1153).astype(np.float32)


def send(left_out: LeftOut, run: str, change: Parameters, exchange: Exchange = EXCHANGE) -> bytes:
    upload = SlotUpload(exchange, 1, 2, 3, left_out.feedback(run, exchange))
    data = bytes(upload.encode(change))
    left_out.sent(run, upload)
    return data


def residual(left_out: LeftOut, run: str, exchange: Exchange = EXCHANGE) -> Parameters:
    feedback = left_out.feedback(run, exchange)
    assert feedback is not None
    return feedback.residual


def test_who_was_never_there_has_left_nothing_out() -> None:
    assert not residual(LeftOut(), "a").any()


def test_what_an_update_left_out_is_in_the_next_one_of_that_run_alone() -> None:
    left_out, change = LeftOut(), a_change()
    sent = EXCHANGE.decode(send(left_out, "a", change))
    assert (residual(left_out, "a") == change - sent).all()
    assert not residual(left_out, "b").any()
    again = EXCHANGE.decode(send(left_out, "a", np.zeros_like(change)))
    assert again.any()
    assert (residual(left_out, "a") == change - sent - again).all()


def test_what_is_not_sent_off_leaves_no_trace() -> None:
    left_out = LeftOut()
    SlotUpload(EXCHANGE, 1, 2, 3, left_out.feedback("a", EXCHANGE)).encode(a_change())
    assert not residual(left_out, "a").any()


def test_a_refused_update_gives_back_what_it_had_sent() -> None:
    left_out, change = LeftOut(), a_change()
    data = send(left_out, "a", change)
    left_out.refused("a", EXCHANGE, data)
    assert np.allclose(residual(left_out, "a"), change, rtol=0, atol=1e-6)


def test_a_refusal_behind_a_newer_update_gives_back_that_one_only() -> None:
    left_out, first, second = LeftOut(), a_change(1), a_change(2)
    refused = send(left_out, "a", first)
    arrived = EXCHANGE.decode(send(left_out, "a", second))
    left_out.refused("a", EXCHANGE, refused)
    wanted = first + second - arrived
    assert np.allclose(residual(left_out, "a"), wanted, rtol=0, atol=1e-6)


def test_only_the_last_runs_are_remembered() -> None:
    left_out = LeftOut()
    runs = [f"run {number}" for number in range(MAX_RESIDUALS + 2)]
    for run in runs:
        send(left_out, run, a_change())
    assert [residual(left_out, run).any() for run in runs] == [False] * 2 + [True] * MAX_RESIDUALS
    left_out.refused(runs[0], EXCHANGE, b"")  # of a run that is forgotten: nothing to give back


def test_a_plan_of_another_shape_starts_from_nothing() -> None:
    left_out = LeftOut()
    data = send(left_out, "a", a_change())
    other = exchange_with(True, "dense_3")
    assert not residual(left_out, "a", other).any()
    left_out.refused("a", other, data)
    send(left_out, "a", a_change(), other)
    assert len(residual(left_out, "a", other)) == 1120


def test_without_error_feedback_nothing_is_kept() -> None:
    left_out, plain = LeftOut(), exchange_with(error_feedback=False)
    send(left_out, "a", a_change(), plain)
    assert left_out.feedback("a", plain) is None
    assert not residual(left_out, "a").any()
