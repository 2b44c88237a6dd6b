"""From readings to families, and what every process has."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterable, Iterator
from numbers import Real
from pathlib import Path

import tinyfleet
from tinyfleet.exposition.catalogue import FAMILIES, LEVEL, MEASURES
from tinyfleet.exposition.text import Family, Sample
from tinyfleet.process import cpu_seconds, resident_bytes, uptime_seconds
from tinyfleet.readings import Reading
from tinyfleet.security.folder import expiry

_CERTIFICATE = "When its certificate ends, since 1970; with TLS only."


def families_of(readings: Iterable[Reading]) -> Iterator[Family]:
    """How well each subject is, and of the values those that are in the catalogue."""
    by_name: dict[str, list[Sample]] = {name: [] for name in FAMILIES}
    levels = []
    for reading in readings:
        subject, _, name = reading.about.partition(" ")
        labels = {subject: name} if name else {}
        levels.append(Sample(int(reading.level), {"subject": subject, "name": name}))
        for measure in MEASURES:
            value = reading.values.get(measure.value) if measure.subject == subject else None
            if isinstance(value, Real):
                more = dict([measure.label]) if measure.label else {}
                by_name[measure.name].append(Sample(float(value), labels | more))
    yield Family(*LEVEL, levels)
    for name, samples in by_name.items():
        yield Family(name, *FAMILIES[name], samples)


def process_families(process: str, tls: Path | None = None) -> Iterator[Family]:
    """Who the process is, and what it takes; what the system does not tell is left out.

    process: "coordinator", "aggregator", "metrics" or "agent". The names that do not
    begin with tinyfleet are those that every client library of Prometheus has. tls: the folder of
    its certificate, if it has one.
    """
    version = {"version": tinyfleet.__version__, "python": platform.python_version()}
    about = "Which process this is, and its version; always 1."
    yield Family(
        "tinyfleet_build_info", "gauge", about, [Sample(1, {"process": process, **version})]
    )
    uptime_s = uptime_seconds()
    started = None if uptime_s is None else time.time() - uptime_s
    for name, kind, what, value in (
        ("tinyfleet_uptime_seconds", "gauge", "Since the process started.", uptime_s),
        ("process_start_time_seconds", "gauge", "When it started, since 1970.", started),
        ("process_cpu_seconds_total", "counter", "Processor time, user and system.", cpu_seconds()),
        ("process_resident_memory_bytes", "gauge", "Memory in use.", resident_bytes()),
        ("tinyfleet_certificate_end_time_seconds", "gauge", _CERTIFICATE, expiry(tls)),
    ):
        yield Family(name, kind, what, [] if value is None else [Sample(value)])
