"""One request to a trace provider: what each answer means, and what never gets out."""

import ssl
import time
from collections.abc import Iterator
from ipaddress import ip_network

import pytest
import trustme

from shared.errors import (
    ProviderRefused,
    RagWorkerError,
    RateLimited,
    SpansRefused,
    TracesDeferred,
)
from tests.fixtures.trace_receiver import (
    PROTOBUF,
    Answer,
    TraceReceiver,
    cutting,
    hanging,
    partly,
    refusing,
)
from worker.providers.otlp import OtlpRules, OtlpSender
from worker.providers.trace_sender import Receipt, Target

SECRET = "sk-very-secret-0123456789"
LOCAL = OtlpRules(timeout_seconds=1.0, networks=(ip_network("127.0.0.0/8"),))


@pytest.fixture
def sender() -> Iterator[OtlpSender]:
    made = OtlpSender(LOCAL)
    yield made
    made.close()


def to(receiver: TraceReceiver) -> Target:
    return Target(f"{receiver.url}/v1/traces", {"x-api-key": SECRET}, (SECRET,))


@pytest.mark.parametrize(
    ("status", "family"),
    [
        (429, RateLimited),
        (408, ProviderRefused),
        (425, ProviderRefused),
        (500, TracesDeferred),
        (502, TracesDeferred),
        (503, TracesDeferred),
        (504, TracesDeferred),
        (400, SpansRefused),
        (413, SpansRefused),
        (422, SpansRefused),
        (401, ProviderRefused),
        (403, ProviderRefused),
        (404, ProviderRefused),
        (405, ProviderRefused),
        (501, ProviderRefused),
    ],
)
def test_an_answer_is_a_family_of_error(
    status: int, family: type[RagWorkerError], sender: OtlpSender, trace_receiver: TraceReceiver
) -> None:
    trace_receiver.always = refusing(status, f"no, not with {SECRET}\nat all")
    with pytest.raises(family) as caught:
        sender.send(to(trace_receiver), b"")
    said = str(caught.value)
    assert said == f"the trace provider answers {status}: no, not with ******** at all"
    assert type(caught.value) is family


def test_a_provider_says_how_long_it_wants_to_be_left_alone(
    sender: OtlpSender, trace_receiver: TraceReceiver
) -> None:
    for status in (429, 503):
        trace_receiver.always = refusing(status, Retry_After="17")
        with pytest.raises((RateLimited, TracesDeferred)) as caught:
            sender.send(to(trace_receiver), b"")
        assert caught.value.retry_after_seconds == 17


def test_a_partial_success_is_a_success(sender: OtlpSender, trace_receiver: TraceReceiver) -> None:
    trace_receiver.always = partly(2, f"2 spans are too old {SECRET}")
    receipt = sender.send(to(trace_receiver), b"")
    assert receipt == Receipt("2 spans are too old ********", 2)
    body = b'{"partialSuccess": {"rejectedSpans": "3", "errorMessage": "too many"}}'
    trace_receiver.always = lambda _: Answer(
        body=body, headers={"Content-Type": "application/json"}
    )
    assert sender.send(to(trace_receiver), b"") == Receipt("too many", 3)


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b"{nonsense"),
        ("application/json", b"[]"),
        ("application/json", b'{"partialSuccess": 1}'),
        (PROTOBUF, b"\xff\xff\xff"),
        ("text/html", b"<p>thanks</p>"),
    ],
)
def test_an_answer_that_cannot_be_read_is_no_reason_to_send_again(
    content_type: str, body: bytes, sender: OtlpSender, trace_receiver: TraceReceiver
) -> None:
    trace_receiver.always = lambda _: Answer(body=body, headers={"Content-Type": content_type})
    assert sender.send(to(trace_receiver), b"").rejected_spans == 0


def test_nobody_there_or_a_broken_connection_is_later(
    sender: OtlpSender, trace_receiver: TraceReceiver
) -> None:
    trace_receiver.always = cutting()
    with pytest.raises(TracesDeferred, match="cannot be reached, or broke off"):
        sender.send(to(trace_receiver), b"")
    trace_receiver.always = hanging(1.5)
    with pytest.raises(TracesDeferred, match="did not answer within 1 s"):
        sender.send(to(trace_receiver), b"")
    with pytest.raises(TracesDeferred, match="cannot be reached"):
        sender.send(Target("http://127.0.0.1:9/v1/traces", {}), b"")
    with pytest.raises(TracesDeferred, match="no address"):
        sender.send(Target("http://nobody.invalid/v1/traces", {}), b"")


def test_an_endless_answer_is_read_in_part_only(
    sender: OtlpSender, trace_receiver: TraceReceiver
) -> None:
    trace_receiver.always = lambda _: Answer(status=400, body=b"x" * 5_000_000, takes=False)
    with pytest.raises(SpansRefused) as caught:
        sender.send(to(trace_receiver), b"")
    assert len(str(caught.value)) < 400


def test_a_dripping_answer_ends_in_time(sender: OtlpSender, trace_receiver: TraceReceiver) -> None:
    trace_receiver.always = lambda _: Answer(body=b"x" * 10_000, drips=0.2)
    began = time.monotonic()
    with pytest.raises(TracesDeferred, match="within 1 s"):
        sender.send(to(trace_receiver), b"")
    assert time.monotonic() - began < 300


def test_a_redirect_is_not_followed(sender: OtlpSender, trace_receiver: TraceReceiver) -> None:
    elsewhere = f"{trace_receiver.url}/elsewhere"
    trace_receiver.always = refusing(307, Location=elsewhere)
    with pytest.raises(ProviderRefused, match="redirects are not followed"):
        sender.send(to(trace_receiver), b"")
    assert [asked.path for asked in trace_receiver.asked] == ["/v1/traces"]


def test_connections_are_used_again(sender: OtlpSender, trace_receiver: TraceReceiver) -> None:
    for _ in range(5):
        sender.send(to(trace_receiver), b"")
    assert (len(trace_receiver.asked), trace_receiver.connections) == (5, 1)


def test_certificates_are_checked(authority: trustme.CA) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    receiver = TraceReceiver(context)
    known, unknown = OtlpSender(LOCAL, verify=trusting), OtlpSender(LOCAL)
    try:
        assert known.send(to(receiver), b"").rejected_spans == 0
        with pytest.raises(ProviderRefused, match="certificate is not accepted"):
            unknown.send(to(receiver), b"")
    finally:
        known.close()
        unknown.close()
        receiver.close()
    assert len(receiver.asked) == 1


def test_an_address_that_is_not_public_is_connected_to_only_when_allowed(
    trace_receiver: TraceReceiver,
) -> None:
    target = Target(f"http://collector.acme.test:{trace_receiver.port}/v1/traces", {})
    strict = OtlpSender(OtlpRules(), resolve=lambda host, port: ["127.0.0.1"])
    with pytest.raises(ProviderRefused, match="TRACE_ALLOWED_NETWORKS"):
        strict.send(target, b"")
    strict.close()
    assert trace_receiver.asked == []


def test_secrets_are_in_no_representation() -> None:
    assert SECRET not in repr(Target("http://h", {"x-api-key": SECRET}, (SECRET,)))
