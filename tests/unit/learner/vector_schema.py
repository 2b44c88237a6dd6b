"""Checks a document against the part of JSON Schema that the vectors' schemas use.

A keyword it does not know is an error, so that no rule of a schema is passed over in silence.
"""

import re

TYPES = {"object": dict, "array": list, "string": str, "integer": int}
DONE_ELSEWHERE = {"$schema", "$defs", "title", "type"}


def problems(value, schema, root, where="$"):
    """One line for each place where `value` breaks `schema`."""
    if "type" in schema and not _is_a(value, schema["type"]):
        yield f"{where}: is no {schema['type']}"
        return  # the other rules are about that type
    for keyword, rule in schema.items():
        if keyword in DONE_ELSEWHERE:
            continue
        for problem in RULES[keyword](value, rule, root, where, schema):
            yield problem if ": " in problem else f"{where}: {problem}"


def _is_a(value, name):
    return isinstance(value, TYPES[name]) and not isinstance(value, bool)


def _required(value, rule, root, where, schema):
    yield from (f"lacks {name}" for name in rule if name not in value)


def _properties(value, rule, root, where, schema):
    for name in rule.keys() & value.keys():
        yield from problems(value[name], rule[name], root, f"{where}.{name}")


def _additional(value, rule, root, where, schema):
    assert rule is False
    yield from (f"has {name}" for name in value.keys() - schema["properties"].keys())


def _items(value, rule, root, where, schema):
    for index, item in enumerate(value):
        yield from problems(item, rule, root, f"{where}[{index}]")


def _one_of(value, rule, root, where, schema):
    fitting = sum(not any(problems(value, option, root, where)) for option in rule)
    if fitting != 1:
        yield f"fits {fitting} of the choices"


def _ref(value, rule, root, where, schema):
    yield from problems(value, root["$defs"][rule.removeprefix("#/$defs/")], root, where)


def _when(broken):
    """A rule that is broken or not."""

    def check(value, rule, root, where, schema):
        if broken(value, rule):
            yield f"breaks the rule {rule!r}"

    return check


RULES = {
    "required": _required,
    "properties": _properties,
    "additionalProperties": _additional,
    "items": _items,
    "oneOf": _one_of,
    "$ref": _ref,
    "const": _when(lambda value, rule: value != rule),
    "enum": _when(lambda value, rule: value not in rule),
    "pattern": _when(lambda value, rule: not re.search(rule, value)),
    "minimum": _when(lambda value, rule: value < rule),
    "minLength": _when(lambda value, rule: len(value) < rule),
    "minItems": _when(lambda value, rule: len(value) < rule),
    "maxItems": _when(lambda value, rule: len(value) > rule),
    "uniqueItems": _when(lambda value, rule: len(value) != len(set(value))),
}
