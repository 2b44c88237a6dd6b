"""The simulator does what a fleet does, step by step, and says when it cannot."""

import math

import numpy as np
import pytest

from tinyfleet.codec.selected import decode_update, encode_selected
from tinyfleet.errors import Diverged, InvalidInput
from tinyfleet.learner import make_learner
from tinyfleet.model.spec import parameters_sha256
from tinyfleet.randomness import Purpose, RandomStream
from tinyfleet.run import make_run, training_samples
from tinyfleet.simulation import simulate
from tinyfleet.simulation.federation import MAX_DIVERGED_ROUNDS
from tinyfleet.strategies import STRATEGIES, Update
from tinyfleet.strategies.server import initial_state, next_state
from tinyfleet.tasks import make_task

SINE = make_task("sine", {})
SMALL = {"samples": 8, "inner_rate": 0.005}  # and what the task recommends


def run_of(strategy="tiny_reptile", rounds=6, **options):
    return make_run(SINE, strategy, rounds, 1, "mlp_32", SMALL | options)


def shared_by(run):
    """For each parameter whether it travels."""
    local, shared = run.make_strategy().plan(0).local, np.ones(run.model.parameter_count, bool)
    for placed in run.model.placed:
        if placed.name in local:
            shared[placed.start : placed.stop] = False
    return shared


def change_by(learner, model, samples, plan):
    """The change from the phase on from which the plan counts it."""
    trained, counted, first = model.copy(), model, 0
    for number, phase in enumerate(plan.phases):
        if number == plan.counted_from:
            counted = trained.copy()
        learner.train(trained, samples[first : first + phase.samples], phase, model)
        first += phase.samples
    return trained - counted


def by_hand(run):
    """The same run, written as the definition reads."""
    learner, strategy, model = (
        make_learner(run.model),
        run.make_strategy(),
        run.initial_parameters(),
    )
    state = initial_state(strategy, model)
    initial, shared = model, shared_by(run)
    left_out = [0.0] * strategy.agents_per_round
    for index in range(run.rounds):
        plan, updates = strategy.plan(index), []
        for slot in range(strategy.agents_per_round):
            samples = training_samples(SINE, run.seed, index, slot, plan.samples)
            assert np.array_equal(model[~shared], initial[~shared])
            change = change_by(learner, model, samples, plan)[shared]
            noise = RandomStream(run.seed, Purpose.UPLOAD, index, slot)
            if not plan.upload.dense:
                upload = plan.upload
                wanted = change + left_out[slot] if upload.error_feedback else change
                data = encode_selected(wanted, upload.fraction, upload.precision, noise)
                change = decode_update(data, len(change))
                left_out[slot] = wanted - change
            delta = np.zeros_like(model)
            delta[shared] = change
            updates.append(Update(slot, delta, plan.samples))
        state = next_state(strategy, state, updates, index)
        model = state.parameters
    return model


ROUNDED = {"precision": "int8", "fraction": 0.1, "local_layers": 2, "agents_per_round": 3}


@pytest.mark.parametrize(
    ("strategy", "options"),
    [
        # fed_buff, whose rounds overlap, is defined in test_arrivals.
        *((strategy, {}) for strategy in STRATEGIES if strategy != "fed_buff"),
        ("tiny_meta_fed", ROUNDED),
        ("tiny_meta_fed", ROUNDED | {"error_feedback": True}),
        ("tiny_meta_fed", {"local_layers": 1, "joint": False}),
    ],
)
def test_a_simulation_is_its_definition_bit_for_bit(strategy, options):
    run = run_of(strategy, **options)
    result = simulate(run, SINE, make_learner(run.model))
    assert parameters_sha256(result.parameters) == parameters_sha256(by_hand(run))


def test_a_second_run_ends_in_the_same_parameters():
    run = run_of()
    hashes = {
        parameters_sha256(simulate(run, SINE, make_learner(run.model)).parameters) for _ in range(2)
    }
    assert len(hashes) == 1


@pytest.mark.parametrize(
    ("strategy", "options"),
    [
        ("tiny_reptile", {}),
        ("tiny_meta_fed", {"local_layers": 1}),
        ("tiny_meta_fed", ROUNDED),
        ("per_fed_avg", {"adapt_passes": 2}),
    ],
)
def test_every_engine_ends_in_the_same_parameters(strategy, options):
    run = run_of(strategy, rounds=3, **options)
    results = [simulate(run, SINE, make_learner(run.model, e)) for e in ("auto", "reference")]
    assert parameters_sha256(results[0].parameters) == parameters_sha256(results[1].parameters)


@pytest.mark.parametrize("strategy", ["tiny_reptile", "reptile"])
def test_what_was_sent_and_learned_is_counted(strategy):
    run = run_of(strategy, rounds=4)
    slots = run.make_strategy().agents_per_round
    result = simulate(run, SINE, make_learner(run.model))
    assert result.bytes_down == result.bytes_up == 4 * slots * 4 * 1153
    assert result.samples == 4 * slots * 8
    assert (result.version, result.diverged) == (4, 0)


def test_only_what_is_shared_and_changed_most_is_sent():
    run = run_of("tiny_meta_fed", rounds=4, fraction=0.1, local_layers=1)
    shared = 1153 - 33  # the last layer of mlp_32 is 32 x 1 and a bias
    result = simulate(run, SINE, make_learner(run.model))
    assert result.bytes_down == 4 * 4 * shared
    assert 4 * 4 * 0.1 * shared <= result.bytes_up <= 4 * (4 * 0.1 * shared + shared / 8 + 12)
    assert result.samples == 4 * (10 + 8)


def test_only_the_head_of_fed_tiny_ol_learns_and_travels():
    run = run_of("fed_tiny_ol", rounds=4)
    result = simulate(run, SINE, make_learner(run.model))
    head = 33  # the last layer of mlp_32 is 32 x 1 and a bias
    assert result.bytes_down == result.bytes_up == 4 * 4 * head
    moved = result.parameters != run.initial_parameters()
    assert not moved[:-head].any()
    assert moved[-head:].sum() > head / 2  # the others hang on ReLUs that stay at zero


def test_fed_tiny_ol_without_a_body_is_tiny_reptile():
    runs = [run_of("fed_tiny_ol", head_layers=3, outer_rate=0.5), run_of(outer_rate=0.5)]
    hashes = {
        parameters_sha256(simulate(run, SINE, make_learner(run.model)).parameters) for run in runs
    }
    assert len(hashes) == 1


def test_what_was_left_out_is_sent_later_and_is_in_no_report_to_go_on_from():
    reports = []
    runs = [
        run_of("tiny_meta_fed", fraction=0.1, error_feedback=feedback) for feedback in (False, True)
    ]
    learner = make_learner(runs[0].model)
    without, fed = (simulate(run, SINE, learner, reports.append) for run in runs)
    assert np.array_equal(reports[0].parameters, reports[6].parameters)  # nothing was left out yet
    assert not np.array_equal(without.parameters, fed.parameters)
    with pytest.raises(InvalidInput, match="start it anew"):
        simulate(runs[1], SINE, learner, None, reports[6].parameters, reports[6].version)


def test_which_device_serves_decides_what_is_sent_later():
    """Two slots and three devices: number 2 serves slot 0 of round 1, and has left nothing out."""
    run = run_of("tiny_meta_fed", rounds=2, fraction=0.1, agents_per_round=2, error_feedback=True)
    plain = run_of("tiny_meta_fed", rounds=2, fraction=0.1, agents_per_round=2)
    learner = make_learner(run.model)
    turns = {n: simulate(run, SINE, learner, devices=n).parameters for n in (None, 2, 3, 4)}
    assert np.array_equal(turns[None], turns[2])  # slot k is device k's
    assert np.array_equal(turns[4], simulate(plain, SINE, learner).parameters)  # all are new
    assert len({parameters_sha256(parameters) for parameters in turns.values()}) == 3
    with pytest.raises(InvalidInput, match="devices must be 1 to 1024 with error_feedback"):
        simulate(run, SINE, learner, devices=1025)


def test_tiny_meta_fed_without_any_of_it_is_tiny_reptile():
    off = {"local_layers": 0, "fraction": 1.0, "outer_rate": 0.5}
    runs = [run_of("tiny_meta_fed", **off), run_of("tiny_reptile", outer_rate=0.5)]
    hashes = {
        parameters_sha256(simulate(run, SINE, make_learner(run.model)).parameters) for run in runs
    }
    assert len(hashes) == 1


def test_each_round_is_reported_with_its_model():
    reports = []
    run = run_of(rounds=3)
    result = simulate(run, SINE, make_learner(run.model), reports.append)
    assert [(report.round, report.version, report.diverged) for report in reports] == [
        (0, 1, 0),
        (1, 2, 0),
        (2, 3, 0),
    ]
    assert all(math.isfinite(report.loss) for report in reports)
    assert np.array_equal(reports[-1].parameters, result.parameters)
    assert not np.array_equal(reports[0].parameters, reports[1].parameters)


@pytest.mark.parametrize("strategy", ["tiny_reptile", "fed_adam"])
def test_going_on_from_any_version_ends_in_the_same_parameters(strategy):
    reports = []
    run = run_of(strategy, rounds=5)
    slots = run.make_strategy().agents_per_round
    learner = make_learner(run.model)
    whole = simulate(run, SINE, learner, reports.append)
    for report in reports:
        kept = (report.parameters, report.version, report.memory)
        rest = simulate(run, SINE, learner, None, *kept)
        assert np.array_equal(rest.parameters, whole.parameters)
        assert rest.samples == (5 - report.version) * 8 * slots


def test_a_rule_that_remembers_does_not_go_on_without_its_memory():
    reports = []
    run = run_of("fed_adam", rounds=3)
    simulate(run, SINE, make_learner(run.model), reports.append)
    with pytest.raises(InvalidInput, match="fed_adam goes on with 2 memory vectors of its server"):
        simulate(run, SINE, make_learner(run.model), None, reports[0].parameters, 1)


def test_an_interrupted_run_can_go_on_from_its_last_report():
    reports = []
    run = run_of(rounds=5)

    def interrupt(report):
        reports.append(report)
        if report.version == 3:
            raise KeyboardInterrupt

    learner = make_learner(run.model)
    with pytest.raises(KeyboardInterrupt):
        simulate(run, SINE, learner, interrupt)
    last = reports[-1]
    rest = simulate(run, SINE, learner, None, last.parameters, last.version)
    assert np.array_equal(rest.parameters, simulate(run, SINE, learner).parameters)


def test_a_diverged_slot_sends_nothing_and_the_round_goes_on():
    reports = []
    run = run_of(rounds=3, inner_rate=10.0, samples=64)
    result = simulate(run, SINE, make_learner(run.model), reports.append)
    assert [report.diverged for report in reports] == [1, 1, 1]
    assert all(math.isnan(report.loss) for report in reports)
    assert np.array_equal(result.parameters, run.initial_parameters())
    assert result.diverged == 3
    assert result.bytes_up == 0


def test_a_run_that_only_diverges_stops_with_the_remedy():
    reports = []
    run = run_of(rounds=1000, inner_rate=10.0, samples=64)
    with pytest.raises(Diverged, match="20 rounds in a row: choose a lower inner_rate"):
        simulate(run, SINE, make_learner(run.model), reports.append)
    assert len(reports) == MAX_DIVERGED_ROUNDS


def test_a_learner_for_another_model_is_refused():
    other = make_run(SINE, "tiny_reptile", 5, 1, "mlp_64")
    with pytest.raises(InvalidInput, match="not for the run's model 'mlp_32'"):
        simulate(run_of(), SINE, make_learner(other.model))


@pytest.mark.parametrize("version", [-1, 7])
def test_a_version_the_run_does_not_have_is_refused(version):
    run = run_of(rounds=6)
    with pytest.raises(InvalidInput, match=f"has no version {version}"):
        simulate(run, SINE, make_learner(run.model), None, run.initial_parameters(), version)
