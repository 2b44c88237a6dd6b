"""Every RPC says who may call it."""

from __future__ import annotations

import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from tinyfleet.security.bearer import AGENT, OPERATOR, ROLES, SERVICE
from tinyfleet.security.roles import CHANGES, FOR_TOKENS, MAY_CALL
from tinyfleet.v1 import (
    aggregator_pb2,
    coordinator_pb2,
    enrolment_pb2,
    metrics_pb2,
    prediction_pb2,
)

FILES = (
    *(coordinator_pb2, aggregator_pb2, metrics_pb2, enrolment_pb2, prediction_pb2),
    *(health_pb2, reflection_pb2),
)


def methods():
    return {
        f"/{service.full_name}/{method.name}"
        for file in FILES
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }


def test_the_table_has_every_rpc_and_no_other():
    assert set(MAY_CALL) | FOR_TOKENS == methods()
    assert not set(MAY_CALL) & FOR_TOKENS


def test_every_rpc_has_a_caller_and_only_roles_that_exist():
    for method, roles in MAY_CALL.items():
        assert roles, method
        assert roles <= set(ROLES), method
    assert set(MAY_CALL) >= CHANGES


@pytest.mark.parametrize(
    ("role", "may", "may_not"),
    [
        (
            AGENT,
            "Attend SubmitUpdates FetchModel FetchFile Report",
            "CreateRun StopRun Query OpenRun EndRun PutFile",
        ),
        (
            OPERATOR,
            "CreateRun StopRun Query FetchModel PutFile Predict",
            "Attend SubmitUpdates OpenRun",
        ),
        (
            SERVICE,
            "OpenRun CloseRound EndRun WatchModel FetchFile Report",
            "CreateRun Attend PutFile Predict",
        ),
    ],
)
def test_a_role_has_its_own_work(role, may, may_not):
    allowed = {method.rpartition("/")[2] for method, roles in MAY_CALL.items() if role in roles}
    assert set(may.split()) <= allowed
    assert not set(may_not.split()) & allowed
