"""docs/ros.md has the names, types and parameters that the running nodes have."""

from __future__ import annotations

from node_tables import NODES, PAGE, marked, sections, table_of


def test_the_tables_are_those_of_the_running_nodes(start, observer):
    tables = {}
    for name in NODES:
        start(name)
        observer.state(name)
        tables[name] = table_of(observer, name)
    assert marked(PAGE.read_text(encoding="utf-8")) == sections(tables), (
        "run `.venv-ros/bin/python tests/ros/node_tables.py`"
    )
