"""The tables of docs/ros.md, as running nodes have it: names, types, parameters.

    .venv-ros/bin/python tests/ros/node_tables.py        writes them into docs/ros.md

What all four nodes have is one table, what a node has more is its own. Between the markers
`<!-- node NAME -->` and `<!-- end -->` nothing is written by hand.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

PAGE = Path(__file__).resolve().parents[2] / "docs" / "ros.md"
NODES = ("coordinator", "aggregator", "metrics", "agent")
EVERY = "every"
SETTLED_S = 1.0
_TYPES = {1: "bool", 2: "integer", 3: "double", 4: "string", 8: "double array", 9: "string array"}
_MAX_DOUBLE, _MAX_INTEGER = sys.float_info.max, 2**63 - 1


@dataclass(frozen=True)
class NodeTable:
    """What a node has: rows of (kind, name, type), rows of a parameter."""

    names: frozenset[tuple[str, str, str]]
    parameters: frozenset[tuple[str, str, str, str, str]]

    def without(self, other: NodeTable) -> NodeTable:
        return NodeTable(self.names - other.names, self.parameters - other.parameters)

    def text(self) -> str:
        """Markdown; the same for the same node."""
        lines = []
        if self.names:
            lines += ["| kind | name | type |", "|---|---|---|"]
            lines += [f"| {kind} | `{name}` | {what} |" for kind, name, what in sorted(self.names)]
            lines += [""]
        if self.parameters:
            lines += ["| parameter | type | default | range | what for |", "|---|---|---|---|---|"]
            lines += [f"| {' | '.join(row)} |" for row in sorted(self.parameters)]
            lines += [""]
        return "\n".join(lines)


def common(tables: Mapping[str, NodeTable]) -> NodeTable:
    """What all of them have."""
    first, *others = tables.values()
    names, parameters = first.names, first.parameters
    for one in others:
        names, parameters = names & one.names, parameters & one.parameters
    return NodeTable(names, parameters)


def sections(tables: Mapping[str, NodeTable]) -> dict[str, str]:
    """The text of each marked section."""
    shared = common(tables)
    return {EVERY: shared.text()} | {
        name: table.without(shared).text() for name, table in tables.items()
    }


def marked(page: str) -> dict[str, str]:
    """The marked sections of a page, by name."""
    found = re.findall(r"<!-- node (\w+) -->\n(.*?)<!-- end -->", page, re.DOTALL)
    return dict(found)


def replaced(page: str, texts: Mapping[str, str]) -> str:
    """The page with its marked sections as given."""

    def section(match: re.Match[str]) -> str:
        return f"<!-- node {match[1]} -->\n{texts[match[1]]}<!-- end -->"

    return re.sub(r"<!-- node (\w+) -->\n.*?<!-- end -->", section, page, flags=re.DOTALL)


def table_of(observer: Any, name: str) -> NodeTable:
    """What the node `/name` has, by ROS's graph and its parameter services."""
    parameters = frozenset(_parameters(observer, name))
    return NodeTable(frozenset(_settled_names(observer, name)), parameters)


def _settled_names(observer: Any, name: str) -> list[tuple[str, str, str]]:
    """The names once none has been added for a while: nodes are discovered bit by bit."""
    before: list[tuple[str, str, str]] = []
    while (found := _names(observer, name)) != before or not found:
        before = found
        observer.spin(SETTLED_S)
    return found


def _names(observer: Any, name: str) -> list[tuple[str, str, str]]:
    node = observer.node
    kinds = {
        "publisher": node.get_publisher_names_and_types_by_node,
        "service": node.get_service_names_and_types_by_node,
        "subscription": node.get_subscriber_names_and_types_by_node,
    }
    return [
        (
            kind,
            topic.replace(f"/{name}/", "~/"),
            ", ".join(types).replace("/msg/", "/").replace("/srv/", "/"),
        )
        for kind, ask in kinds.items()
        for topic, types in ask(name, "/")
    ]


def _parameters(observer: Any, name: str) -> list[tuple[str, str, str, str, str]]:
    from rcl_interfaces.srv import DescribeParameters, GetParameters, ListParameters

    names = observer.ask(ListParameters, f"/{name}/list_parameters").result.names
    asked = DescribeParameters.Request(names=names)
    described = observer.ask(DescribeParameters, f"/{name}/describe_parameters", asked).descriptors
    values = observer.ask(
        GetParameters, f"/{name}/get_parameters", GetParameters.Request(names=names)
    )
    return [
        (f"`{one.name}`", _TYPES[one.type], _default(value), _range(one), one.description)
        for one, value in zip(described, values.values, strict=True)
    ]


def _default(value: Any) -> str:
    from rcl_interfaces.msg import Parameter as Message
    from rclpy.parameter import Parameter

    found = Parameter.from_parameter_msg(Message(name="x", value=value)).value
    if isinstance(found, bool):
        return str(found).lower()
    if isinstance(found, int | float):
        return f"{found:g}" if isinstance(found, float) else str(found)
    return ", ".join(map(str, found)) if not isinstance(found, str) else found


def _range(descriptor: Any) -> str:
    for one in (*descriptor.integer_range, *descriptor.floating_point_range):
        is_open = one.to_value in (_MAX_INTEGER, _MAX_DOUBLE)
        low = f"{one.from_value:g}" if isinstance(one.from_value, float) else str(one.from_value)
        high = f"{one.to_value:g}" if isinstance(one.to_value, float) else str(one.to_value)
        return f"from {low}" if is_open else f"{low} to {high}"
    return str(descriptor.additional_constraints).replace("|", "\\|")


def main() -> None:
    from domains import claim_domain

    os.environ |= {
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "ROS_DOMAIN_ID": str(claim_domain()),
    }
    from nodes import NodeProcess, Observer

    tables, observer = {}, Observer()
    with tempfile.TemporaryDirectory() as folder:
        for name in NODES:
            node = NodeProcess(name, Path(folder) / f"{name}.log", [])
            observer.state(name)
            tables[name] = table_of(observer, name)
            node.stop()
    observer.close()
    PAGE.write_text(replaced(PAGE.read_text("utf-8"), sections(tables)), "utf-8")


if __name__ == "__main__":
    main()
