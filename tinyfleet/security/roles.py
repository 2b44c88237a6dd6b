"""Who may call what: one table for every RPC there is, and nothing that is not in it."""

from __future__ import annotations

from tinyfleet.security.bearer import AGENT, OPERATOR, SERVICE

_COORDINATOR = "/tinyfleet.v1.CoordinatorService/"
_AGGREGATOR = "/tinyfleet.v1.AggregatorService/"
_METRICS = "/tinyfleet.v1.MetricsService/"
_PREDICTION = "/tinyfleet.v1.PredictionService/"  # of an agent, which lets in no agent but itself
_HEALTH = "/grpc.health.v1.Health/"
_ANYBODY = frozenset({AGENT, OPERATOR, SERVICE})

MAY_CALL: dict[str, frozenset[str]] = {
    f"{_COORDINATOR}CreateRun": frozenset({OPERATOR}),
    f"{_COORDINATOR}GetRun": frozenset({OPERATOR}),
    f"{_COORDINATOR}ListRuns": frozenset({OPERATOR}),
    f"{_COORDINATOR}WatchRun": frozenset({OPERATOR}),
    f"{_COORDINATOR}StopRun": frozenset({OPERATOR}),
    f"{_COORDINATOR}ListAgents": frozenset({OPERATOR}),
    f"{_COORDINATOR}Attend": frozenset({AGENT}),
    f"{_AGGREGATOR}OpenRun": frozenset({SERVICE}),
    f"{_AGGREGATOR}CloseRound": frozenset({SERVICE}),
    f"{_AGGREGATOR}EndRun": frozenset({SERVICE}),
    f"{_AGGREGATOR}WatchModel": frozenset({SERVICE, OPERATOR}),
    f"{_AGGREGATOR}FetchModel": _ANYBODY,
    f"{_AGGREGATOR}SubmitUpdates": frozenset({AGENT}),
    f"{_AGGREGATOR}PutFile": frozenset({OPERATOR}),
    f"{_AGGREGATOR}FetchFile": _ANYBODY,
    f"{_METRICS}Report": frozenset({AGENT, SERVICE}),
    f"{_METRICS}Query": frozenset({OPERATOR}),
    f"{_METRICS}Watch": frozenset({OPERATOR}),
    f"{_METRICS}Summarize": frozenset({OPERATOR}),
    f"{_PREDICTION}Predict": frozenset({OPERATOR, AGENT}),
    f"{_PREDICTION}PredictStream": frozenset({OPERATOR, AGENT}),
    f"{_PREDICTION}GetModel": frozenset({OPERATOR, AGENT}),
    "/tinyfleet.v1.RenewalService/Renew": _ANYBODY,
    f"{_HEALTH}Check": _ANYBODY,
    f"{_HEALTH}List": _ANYBODY,
    f"{_HEALTH}Watch": _ANYBODY,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": frozenset({OPERATOR}),
}

# Served on a port of its own, to whoever has a token instead of a certificate.
FOR_TOKENS = frozenset({"/tinyfleet.v1.EnrolmentService/Enrol"})

# Calls that change something, or begin what does: they are in the audit log also when they go well.
CHANGES = frozenset(
    {
        f"{_COORDINATOR}CreateRun",
        f"{_COORDINATOR}StopRun",
        f"{_COORDINATOR}Attend",
        "/tinyfleet.v1.RenewalService/Renew",
        f"{_AGGREGATOR}OpenRun",
        f"{_AGGREGATOR}CloseRound",
        f"{_AGGREGATOR}EndRun",
        f"{_AGGREGATOR}SubmitUpdates",
        f"{_AGGREGATOR}PutFile",
    }
)
