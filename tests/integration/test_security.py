"""Who is refused, with which words, and what the audit log says: real services over TLS."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import sys
import time

import grpc
import pytest
from security_site import audited, ca, dial, kept_open, raw, refusal, site

from tinyfleet.cli.metrics_client import Metrics
from tinyfleet.client import Fleet
from tinyfleet.errors import InvalidInput, Refused
from tinyfleet.run import make_run
from tinyfleet.run_files import file_of
from tinyfleet.security.authority import Authority
from tinyfleet.security.bearer import SERVICES, Bearer
from tinyfleet.tasks import outline_task
from tinyfleet.v1 import aggregator_pb2, coordinator_pb2, metrics_pb2
from tinyfleet.v1.aggregator_pb2_grpc import AggregatorServiceStub
from tinyfleet.v1.coordinator_pb2_grpc import CoordinatorServiceStub
from tinyfleet.v1.metrics_pb2_grpc import MetricsServiceStub

pytestmark = pytest.mark.slow
__all__ = ["site"]  # the fixture


def list_runs(opened):
    with opened:
        stub = CoordinatorServiceStub(opened)
        return refusal(lambda: stub.ListRuns(coordinator_pb2.ListRunsRequest(), timeout=10))


def test_an_operator_is_let_in(site):
    with Fleet(site.fleet.coordinator, tls=site.fleet.tls) as fleet:
        assert fleet.list_runs() == []
    with Metrics(site.fleet.metrics, site.fleet.tls) as metrics:
        metrics.query(metrics_pb2.QueryRequest())


def test_no_certificate(site):
    code, _ = list_runs(raw(site, "coordinator", grpc.ssl_channel_credentials(ca(site))))
    assert code is grpc.StatusCode.UNAVAILABLE
    assert audited(site, "coordinator", "handshake", "no certificate")["outcome"] == "refused"


def test_a_certificate_of_another_authority(site):
    stranger = site.folder / "stranger"
    key, cert = ((stranger / name).read_bytes() for name in ("key.pem", "cert.pem"))
    code, _ = list_runs(raw(site, "coordinator", grpc.ssl_channel_credentials(ca(site), key, cert)))
    assert code is grpc.StatusCode.UNAVAILABLE
    audited(site, "coordinator", "handshake", "a certificate of another authority")


def test_whoever_trusts_another_authority_does_not_talk_to_this_site(site):
    with (
        Fleet(site.fleet.coordinator, tls=site.folder / "stranger") as fleet,
        pytest.raises(Refused, match=r"is from an authority that ca.pem here does not name"),
    ):
        fleet.list_runs()


def test_an_expired_certificate(site):
    expired = site.folder / "expired"
    with pytest.raises(InvalidInput, match=r"expired on .* issue a new one"):
        Fleet(site.fleet.coordinator, tls=expired)
    key, cert = ((expired / name).read_bytes() for name in ("key.pem", "cert.pem"))
    code, _ = list_runs(raw(site, "coordinator", grpc.ssl_channel_credentials(ca(site), key, cert)))
    assert code is grpc.StatusCode.UNAVAILABLE
    audited(site, "coordinator", "handshake", "a certificate that has expired")


def test_plain_text(site):
    with (
        Fleet(site.fleet.coordinator) as fleet,
        pytest.raises(Refused, match="it wants TLS: give --tls"),
    ):
        fleet.list_runs()
    audited(site, "coordinator", "handshake", "plain text where TLS is wanted")


def test_an_agent_without_a_certificate_says_what_it_lacks(site):
    command = [sys.executable, "-m", "edge_agents", "--coordinator", site.fleet.coordinator]
    done = subprocess.run(
        [*command, "--give-up-s", "0.5"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 3
    assert "it wants TLS: give --tls" in done.stderr.splitlines()[-1]


def test_another_service_is_not_taken_for_the_one_that_is_meant(site):
    with (
        Fleet(site.fleet.aggregator, tls=site.fleet.tls) as fleet,
        pytest.raises(Refused, match="that of another service: correct the address"),
    ):
        fleet.list_runs()


def test_an_agent_that_calls_an_operator_s_rpc(site):
    with (
        Fleet(site.fleet.coordinator, tls=site.folder / "pi-1") as fleet,
        pytest.raises(Refused, match="agent pi-1 may not call ListAgents: that is for operators"),
    ):
        fleet.list_agents()
    line = audited(site, "coordinator", "ListAgents")
    assert (line["who"], line["outcome"]) == ("agent pi-1", "refused")


@contextlib.contextmanager
def attend(site, who, name):
    """An open stream of that agent."""
    hello = coordinator_pb2.Hello(agent=name, instance_id=f"{name}-process")
    with dial(site, "coordinator", who) as opened, kept_open() as keep:
        said = keep(coordinator_pb2.AttendRequest(hello=hello))
        yield CoordinatorServiceStub(opened).Attend(said)


def test_an_agent_attends_only_as_itself(site):
    with attend(site, "pi-1", "pi-2") as call:
        code, text = refusal(lambda: next(call))
    assert code is grpc.StatusCode.PERMISSION_DENIED
    assert text == ("agent pi-1 may not attend as 'pi-2': its certificate does not name that one")
    assert audited(site, "coordinator", "Attend", "pi-2", "refused")["who"] == "agent pi-1"


def test_an_agent_attends_for_what_is_attached_to_it(site):
    with attend(site, "pi-1", "pi-1.board-1") as call:
        assert next(call).WhichOneof("message") == "welcome"
    audited(site, "coordinator", "Attend", '"ok"')


def test_an_agent_that_attends_under_a_name_that_is_not_its_own_ends(site):
    command = [sys.executable, "-m", "edge_agents", "--coordinator", site.fleet.coordinator]
    command += ["--tls", str(site.folder / "pi-1"), "--name", "pi-2", "--reconnect-s", "0.1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "agent pi-1 may not attend as 'pi-2'" in done.stderr.splitlines()[-1]


def a_run():
    task = outline_task("sine", {})
    return make_run(task, "tiny_reptile", 1000, 1, "mlp_32", {})


@contextlib.contextmanager
def assignment_of_pi_1(site):
    """An assignment that pi-1 was given, and the stream it came on."""
    with Fleet(site.fleet.coordinator, tls=site.fleet.tls) as fleet:
        run = fleet.create_run(a_run())
        with attend(site, "pi-1", "pi-1") as call:
            messages = (m.assignment for m in call if m.WhichOneof("message") == "assignment")
            yield next(messages)
        fleet.stop_run(run.run_id)


def header_of(assignment, agent):
    return aggregator_pb2.UpdateHeader(
        assignment_id=assignment.assignment_id,
        run_id=assignment.run_id,
        agent=agent,
        grant=assignment.grant,
        encoding=aggregator_pb2.UPDATE_ENCODING_DENSE_FLOAT32,
        samples=128,
        diverged=True,
    )


def submit(site, who, header):
    with dial(site, "aggregator", who) as opened:
        sent = iter([aggregator_pb2.SubmitUpdatesRequest(header=header)])
        return next(AggregatorServiceStub(opened).SubmitUpdates(sent, timeout=20))


def test_an_agent_submits_only_what_it_was_given(site):
    with assignment_of_pi_1(site) as given:
        code, text = refusal(lambda: submit(site, "pi-2", header_of(given, "pi-1")))
        assert code is grpc.StatusCode.PERMISSION_DENIED
        assert text.startswith("agent pi-2 may not submit for 'pi-1'")
        audited(site, "aggregator", "agent pi-2", "may not submit for 'pi-1'")

        stolen = submit(site, "pi-2", header_of(given, "pi-2"))
        assert stolen.status == aggregator_pb2.RECEIPT_STATUS_INVALID
        assert stolen.message == "the assignment was not given to 'pi-2'"
        audited(site, "aggregator", "agent pi-2", "without its grant")


def test_whoever_was_given_it_may_submit_it(site):
    with assignment_of_pi_1(site) as given:
        receipt = submit(site, "pi-1", header_of(given, "pi-1"))
        assert receipt.status == aggregator_pb2.RECEIPT_STATUS_ACCEPTED


def put(site, who, content):
    file = file_of(content)
    sent = iter(
        [aggregator_pb2.PutFileRequest(sha256=file.sha256, size_bytes=file.size, data=content)]
    )
    with dial(site, "aggregator", who) as opened:
        return AggregatorServiceStub(opened).PutFile(sent, timeout=20)


def test_an_operator_puts_files_and_an_agent_only_fetches_them(site):
    code, text = refusal(lambda: put(site, "pi-1", b"an agent's"))
    assert code is grpc.StatusCode.PERMISSION_DENIED
    assert text == "agent pi-1 may not call PutFile: that is for operators"
    audited(site, "aggregator", "agent pi-1", "PutFile", '"refused"')
    with Fleet(site.fleet.coordinator, tls=site.fleet.tls) as fleet:
        assert not fleet.put_file(b"an operator's")
        assert fleet.put_file(b"an operator's")
    audited(site, "aggregator", "operator", "PutFile", '"ok"')
    request = aggregator_pb2.FetchFileRequest(sha256=file_of(b"an operator's").sha256)
    with dial(site, "aggregator", "pi-1") as opened:
        (part,) = AggregatorServiceStub(opened).FetchFile(request, timeout=20)
    assert part.data == b"an operator's"


def test_an_agent_reports_only_what_it_measured(site):
    sample = metrics_pb2.Sample(source="pi-2", name="x", value=1.0)
    request = metrics_pb2.ReportRequest(request_id="one", samples=[sample])
    with dial(site, "metrics", "pi-1") as opened:
        code, text = refusal(lambda: MetricsServiceStub(opened).Report(request, timeout=10))
    assert code is grpc.StatusCode.PERMISSION_DENIED
    assert text.startswith("agent pi-1 may not report as 'pi-2'")
    audited(site, "metrics", "agent pi-1", "may not report as 'pi-2'")


def test_a_flood_of_streams(site):
    header = header_of(coordinator_pb2.Assignment(assignment_id="x-0-0-0", run_id="x"), "flood")
    with dial(site, "aggregator", "flood") as opened, kept_open() as keep:
        stub = AggregatorServiceStub(opened)
        message = aggregator_pb2.SubmitUpdatesRequest(header=header)
        calls = [stub.SubmitUpdates(keep(message)) for _ in range(64)]
        for call in calls:
            next(call)  # a receipt: the stream is open
        code, text = refusal(lambda: next(stub.SubmitUpdates(keep(message))))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert text == "agent flood: 64 calls are open already: end some first"
    audited(site, "aggregator", "agent flood", "64 calls are open already")
    with Fleet(site.fleet.coordinator, tls=site.fleet.tls) as fleet:
        fleet.list_runs()  # nobody else is the worse for it


def test_a_renewed_certificate_is_shown_without_a_restart(site):
    def shown():
        host, port = site.fleet.metrics.split(":")
        context = ssl.create_default_context(cadata=ca(site).decode())
        context.check_hostname = False
        context.load_cert_chain(site.folder / "pi-1" / "cert.pem", site.folder / "pi-1" / "key.pem")
        with (
            socket.create_connection((host, int(port))) as plain,
            context.wrap_socket(plain) as secure,
        ):
            return secure.getpeercert(binary_form=True)

    before = shown()
    assert shown() == before
    site.authority.issue_folder(Bearer("service", "metrics"), site.folder / "tls" / "metrics")
    assert shown() != before
    with Metrics(site.fleet.metrics, site.fleet.tls) as metrics:
        metrics.query(metrics_pb2.QueryRequest())


def test_a_revoked_certificate_is_let_in_no_more_and_its_streams_end(site):
    site.authority.issue_folder(Bearer("agent", "lost"), site.folder / "lost")
    tls = site.folder / "tls"
    with attend(site, "lost", "lost") as call:
        assert next(call).WhichOneof("message") == "welcome"
        words = ("ca", "revoke", "lost", "--to", tls / "coordinator", "--ca", tls / "ca")
        done = subprocess.run(
            [sys.executable, "-m", "tinyfleet.cli", *words], capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr
        began = time.monotonic()
        code, text = refusal(lambda: next(call))
        assert time.monotonic() - began < 30
    assert code is grpc.StatusCode.UNAUTHENTICATED
    assert text == "the certificate of agent lost is revoked"
    with attend(site, "lost", "lost") as call:
        assert refusal(lambda: next(call)) == (code, text)
    audited(site, "coordinator", "agent lost", "is revoked")
    with attend(site, "pi-2", "pi-2") as call:  # nobody else is
        assert next(call).WhichOneof("message") == "welcome"


def test_the_authority_s_key_is_replaced_while_all_goes_on(site):
    """Last in this file: certificates of the old key count no longer after it."""
    services = [site.folder / "tls" / name for name in SERVICES]

    def rotate(*options):
        folders = [word for folder in services for word in ("--to", folder)]
        words = ("ca", "rotate", *options, "--ca", site.folder / "tls" / "ca", *folders)
        command = [sys.executable, "-m", "tinyfleet.cli", *words]
        done = subprocess.run(command, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        return Authority.open(site.folder / "tls" / "ca")

    def is_let_in(who):
        with dial(site, "coordinator", who) as opened:
            stub = CoordinatorServiceStub(opened)
            try:
                stub.ListRuns(coordinator_pb2.ListRunsRequest(), timeout=10)
            except grpc.RpcError as error:
                return error.code() is not grpc.StatusCode.UNAVAILABLE
            return True

    fresh = rotate()
    fresh.issue_folder(Bearer("operator", "new"), site.folder / "new")
    assert is_let_in("new")
    assert is_let_in("tls/operator")  # of the old key, which still counts
    for name, folder in zip(SERVICES, services, strict=True):
        fresh.issue_folder(Bearer("service", name), folder)
    assert is_let_in("new")
    rotate("--finish")
    assert is_let_in("new")
    assert not is_let_in("tls/operator")
