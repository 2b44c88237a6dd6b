"""What the coordinator's settings refuse, and how its help reads."""

import pytest

from services.coordinator.settings import CoordinatorSettings
from tinyfleet.config import Sources, load_settings
from tinyfleet.errors import InvalidInput


def settings(*argv):
    return load_settings(CoordinatorSettings, "coordinator", "Runs it.", Sources(argv, {}))


def test_defaults_are_those_of_the_guide():
    known = settings()
    assert (known.listen, known.aggregator, known.metrics) == (
        "127.0.0.1:7310",
        "127.0.0.1:7311",
        "127.0.0.1:7312",
    )
    assert (known.heartbeat_s, known.round_deadline_s) == (15.0, 60.0)


def test_there_may_be_no_metrics_service():
    assert settings("--metrics", "").metrics == ""


@pytest.mark.parametrize(
    "argv",
    [
        ("--aggregator", "nonsense"),
        ("--aggregator", ""),
        ("--aggregator", ":7311"),
        ("--aggregator", "host:99999"),
        ("--metrics", "host:"),
        ("--advertised-aggregator", "host:٣"),
        ("--heartbeat-s", "0"),
        ("--round-deadline-s", "nan"),
        ("--max-agents", "0"),
        ("--max-runs", "1.5"),
    ],
)
def test_settings_that_cannot_work_are_refused_by_name(argv):
    with pytest.raises(InvalidInput, match=argv[0].strip("-").replace("-", "[-_]")):
        settings(*argv)


def test_help_fits_80_columns(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        settings("--help")
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80
