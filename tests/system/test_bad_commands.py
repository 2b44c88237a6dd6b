"""Command lines that cannot work: one clear line with the remedy, and the right exit code."""

from __future__ import annotations

import pytest
from refusals import INVALID, NOBODY, NOT_REACHABLE, refused


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("simulat", "unknown command 'simulat': did you mean 'simulate'?"),
        ("simulate --task sin", "unknown task 'sin': did you mean 'sine'?"),
        ("simulate --strategy reptil", "unknown strategy 'reptil': did you mean 'reptile'?"),
        ("simulate --model mlp_23", "unknown model 'mlp_23': did you mean 'mlp_32'?"),
        ("simulate --set inner_rat=1", "'inner_rat': did you mean 'inner_rate'?"),
        ("simulate --set inner_rate=0.01s", "inner_rate must be a number, got 0.01s"),
        ("simulate --set inner_rate=nan", "inner_rate must be"),
        ("simulate --set inner_rate=-1", "inner_rate must be 1e-09 to 10, got -1"),
        ("simulate --task-option ways=5", "task 'sine' has no options, got 'ways'"),
        ("simulate --round 10", "No such option '--round'"),
        ("simulate --rounds 10k", "'--rounds': '10k' is not a valid integer"),
        ("simulate --rounds 0", "rounds must be 1 to 100000000, got 0"),
        ("simulate --seed -1", "--seed must be 0 to 9223372036854775807, got -1"),
        ("simulate --engine gpu", "unknown engine 'gpu': known: auto, native, reference"),
        ("simulate --test-shots 0", "shots must be 1 to"),
        ("simulate --task omniglot", "'omniglot' needs its data: give omniglot.npz"),
        ("simulate --task omniglot --data nowhere", "no Omniglot data at nowhere: give"),
        ("simulate --resume nowhere", "cannot read checkpoint nowhere: No such file"),
        ("models --ways 1", "ways must be 2 to"),
        ("memory cnn_k", "unknown model 'cnn_k': did you mean 'cnn_"),
        ("up --agents 0", "--agents"),
        ("up --agents 257", "--agents"),
        ("agents --coordinator here", "--coordinator must be host:port, got 'here'"),
        ("metrics query --rounds 5:x", "--rounds is A:B"),
    ],
)
def test_a_command_line_that_cannot_work_is_one_line(tinyfleet, words, message):
    refused(tinyfleet(*words.split()), INVALID, message)


@pytest.mark.parametrize(
    "words",
    [
        "run start --rounds 5",
        "run list",
        "run watch x",
        "run stop x",
        "agents",
        "checkpoint pull x",
        "metrics summary --run last",
    ],
)
def test_a_coordinator_that_is_not_there_is_named_with_how_to_start_it(tinyfleet, words):
    done = tinyfleet(*words.split(), "--coordinator", NOBODY)
    refused(done, NOT_REACHABLE, f"no coordinator answers at {NOBODY}", "'tinyfleet-coordinator'")


def test_a_metrics_service_that_is_not_there_is_named(tinyfleet):
    done = tinyfleet("metrics", "query", "--metrics-service", NOBODY)
    refused(done, NOT_REACHABLE, "'tinyfleet-metrics'", "--metrics-service")
