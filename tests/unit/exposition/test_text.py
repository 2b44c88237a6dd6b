"""What we expose is what Prometheus's own parser reads."""

import math

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from tinyfleet.exposition.families import families_of, process_families
from tinyfleet.exposition.text import Counts, Family, Histogram, Sample, text_of
from tinyfleet.readings import Level, Reading


def read(families):
    """(name, labels) -> value, as the parser has it."""
    parsed = list(text_string_to_metric_families(text_of(families)))
    samples = [sample for family in parsed for sample in family.samples]
    values = {(one.name, frozenset(one.labels.items())): one.value for one in samples}
    assert len(values) == len(samples)
    return values


def one(name, /, **labels):
    return name, frozenset(labels.items())


def test_the_text_is_this():
    counts = Counts("calls_total", "Calls, by\ncode.", "code")
    counts.add("OK")
    counts.add("OK")
    seconds = Histogram("call_seconds", "Their time.", (0.1, 1.0))
    for size in (0.05, 0.1, 3.0):
        seconds.observe(size)
    gauge = Family("age_seconds", "gauge", "Age.", [Sample(1.5, {"of": 'a"\\\n'})])
    none = Family("nothing", "gauge", "None.", [])
    assert text_of([counts.family(), seconds.family(), gauge, none]) == (
        "# HELP calls_total Calls, by\\ncode.\n"
        "# TYPE calls_total counter\n"
        'calls_total{code="OK"} 2\n'
        "# HELP call_seconds Their time.\n"
        "# TYPE call_seconds histogram\n"
        'call_seconds_bucket{le="0.1"} 2\n'
        'call_seconds_bucket{le="1.0"} 2\n'
        'call_seconds_bucket{le="+Inf"} 3\n'
        "call_seconds_sum 3.15\n"
        "call_seconds_count 3\n"
        "# HELP age_seconds Age.\n"
        "# TYPE age_seconds gauge\n"
        'age_seconds{of="a\\"\\\\\\n"} 1.5\n'
    )


@given(st.text(), st.floats())
def test_any_label_and_any_number_are_read_back(text, value):
    text = text.replace("\r", " ")  # the parser takes it for the end of a line; names have none
    for other in ("\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"):
        text = text.replace(other, " ")
    values = read([Family("some", "gauge", text, [Sample(value, {"of": text})])])
    (read_back,) = values.values()
    assert read_back == value or (math.isnan(read_back) and math.isnan(value))
    assert list(values) == [one("some", of=text)]


def test_readings_become_families():
    readings = [
        Reading("fleet", Level.WARN, values={"attached_agents": 3, "odd": "x"}),
        Reading("storage", Level.ERROR),
        Reading("member pi-1", values={"stream_age_s": 1.5, "in_hand": 2}),
        Reading("member pi-1.board-1", values={"stream_age_s": 2.5}),
    ]
    assert read(families_of(readings)) == {
        one("tinyfleet_level", subject="fleet", name=""): 1,
        one("tinyfleet_level", subject="storage", name=""): 2,
        one("tinyfleet_level", subject="member", name="pi-1"): 0,
        one("tinyfleet_level", subject="member", name="pi-1.board-1"): 0,
        one("tinyfleet_agents", state="attached"): 3,
        one("tinyfleet_stream_age_seconds", member="pi-1"): 1.5,
        one("tinyfleet_stream_age_seconds", member="pi-1.board-1"): 2.5,
        one("tinyfleet_in_hand", member="pi-1"): 2,
    }


def test_a_process_tells_who_it_is_and_what_it_takes():
    values = {name: value for (name, _), value in read(process_families("agent")).items()}
    assert values["tinyfleet_build_info"] == 1
    assert 2**20 < values["process_resident_memory_bytes"] < 2**36
    assert 0 < values["tinyfleet_uptime_seconds"] < 86_400
    assert values["process_cpu_seconds_total"] > 0
    assert "tinyfleet_certificate_end_time_seconds" not in values
