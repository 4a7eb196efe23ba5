# SPDX-License-Identifier: MIT
"""Closing an ssl.SSLSocket."""

import contextlib
import errno
import fcntl
import os
import select
import signal
import socket
import ssl
import sys
import termios
import threading
from collections.abc import Callable
from typing import Any

import pytest
from blocking import (
    FOREVER,
    Inside,
    assert_closed,
    at_a_high_number,
    descriptors_below,
    is_free,
    no_descriptors,
    until,
)
from peers import Act, Certificate, Peer, Peers, Seen

import finack
from finack import Policy, _openssl


def tls_client(address: Any, certificate: Certificate, *, exact: bool = False) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=str(certificate.authority))
    if exact:
        context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    else:
        context.options |= ssl.OP_IGNORE_UNEXPECTED_EOF
    return context.wrap_socket(socket.create_connection(address), server_hostname="localhost")


@pytest.mark.parametrize("courtesy", ["prompt", "orderly", "full"])
@pytest.mark.parametrize("timeout", [None, 0, 5])
def test_tls(peers: Peers, certificate: Certificate, courtesy: Any, timeout: float | None) -> None:
    peer = peers.listen("clean", tls=certificate)
    with tls_client(peer.address, certificate) as sock:
        sock.sendall(b"hello")
        sock.settimeout(timeout)
        number = sock.fileno()
        receipt = finack.close(sock, Policy(courtesy=courtesy, farewell=FOREVER, linger=FOREVER))
        assert is_free(number)
        assert_closed(sock)
    assert receipt.outcome == ("prompt" if courtesy == "prompt" else "graceful")
    assert {"notified", "shut", "released", "unreferenced"} <= set(receipt.stages)
    assert receipt.held is False
    if courtesy != "prompt":
        assert "answered" in receipt.stages and not receipt.unverifiable
        assert receipt.end == "fin" and receipt.lost == 0
    seen = peer.seen(1)[0]
    assert (seen.received, seen.close_notify) == (5, True)
    # Its own farewell may come after a prompt close.
    assert seen.end == "eof" or courtesy == "prompt"
    peer.stop()


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("acts", [["notify"], ["notify", "fin"], ["fin"]])
@pytest.mark.parametrize("early", [False, True])
def test_tls_under_full_tells_an_answer_from_an_end(
    peers: Peers, certificate: Certificate, acts: list[Act], exact: bool, early: bool
) -> None:
    """Also where OpenSSL was told to take any end for an answer, as some builds of Python do."""
    peer = peers.listen("mute", tls=certificate)
    with tls_client(peer.address, certificate, exact=exact) as sock:
        thread = threading.Thread(target=act_once_open, args=(peer, acts))
        thread.start()
        if early:
            thread.join()
        policy = Policy(courtesy="full", farewell=FOREVER, linger=0.01, total=FOREVER)
        receipt = finack.close(sock, policy)
        thread.join()
    assert "notified" in receipt.stages
    assert ("answered" in receipt.stages) == ("notify" in acts)
    assert (receipt.outcome == "truncated") == ("notify" not in acts)
    peer.stop()


@pytest.mark.parametrize("exact", [False, True])
def test_tls_whose_end_the_program_has_read(
    peers: Peers, certificate: Certificate, exact: bool
) -> None:
    """A close_notify that has been read is an answer too."""
    peer = peers.listen("mute", tls=certificate)
    with tls_client(peer.address, certificate, exact=exact) as sock:
        act_once_open(peer, ["notify"])
        assert sock.recv(1) == b""
        policy = Policy(courtesy="full", farewell=0.01, linger=0.01, total=FOREVER)
        assert "answered" in finack.close(sock, policy).stages
    peer.stop()


def act_once_open(peer: Peer, acts: list[Act]) -> None:
    peer.opened(1)
    for act in acts:
        peer.act(act)


def test_tls_under_full_waits_no_longer_than_allowed(
    peers: Peers, certificate: Certificate
) -> None:
    peer = peers.listen("mute", tls=certificate)
    with tls_client(peer.address, certificate) as sock:
        peer.opened(1)  # its session tickets would be reset if they came later
        receipt = finack.close(sock, Policy(courtesy="full", farewell=0.05, linger=0.05))
    assert (receipt.outcome, receipt.phase, receipt.end) == ("timed_out", "farewell", "fin")
    assert peer.seen(1) == [Seen(0, close_notify=True, end="eof", reset_after=False)]
    peer.stop()


@pytest.mark.parametrize("courtesy", ["orderly", "full"])
def test_tls_with_unread_input_says_farewell(
    peers: Peers, certificate: Certificate, courtesy: Any
) -> None:
    """ssl's unwrap() fails with APPLICATION_DATA_AFTER_CLOSE_NOTIFY."""
    peer = peers.listen("echo", tls=certificate)
    with tls_client(peer.address, certificate) as sock:
        sock.sendall(b"hello")
        assert sock.recv(1) == b"h"
        sock.sendall(bytes(100_000))
        until(lambda: fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)) == bytes(4))
        receipt = finack.close(sock, Policy(courtesy=courtesy, linger=FOREVER, farewell=FOREVER))
    assert receipt.outcome == "graceful" and "notified" in receipt.stages
    seen = peer.seen(1)[0]
    assert (seen.received, seen.close_notify, seen.end) == (100_005, True, "eof")
    peer.stop()


def test_tls_deaf_peer(peers: Peers, certificate: Certificate) -> None:
    """Its window is closed: nothing more can be told, and the close ends all the same."""
    peer = peers.listen("deaf", tls=certificate)
    with tls_client(peer.address, certificate) as sock:
        peer.opened(1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 200_000)
        sock.sendall(bytes(100_000))
        policy = Policy(farewell=0.05, linger=0.05, orphan="reset")
        receipt = finack.close(sock, policy)
    assert receipt.outcome == "timed_out" and receipt.end == "reset" and receipt.unacked > 0
    assert "notified" in receipt.stages  # the kernel has it
    assert peer.seen(1)[0].end == "reset"
    peer.stop()


def test_tls_after_half_a_record(peers: Peers, certificate: Certificate) -> None:
    """It can't be completed any more: FIN would tell the peer that nothing is missing."""
    peer = peers.listen("deaf", tls=certificate)
    with tls_client(peer.address, certificate) as sock:
        peer.opened(1)
        sock.settimeout(0)
        with pytest.raises(ssl.SSLWantWriteError):
            while True:
                sock.send(bytes(16384))
        receipt = finack.close(sock)
    assert receipt.outcome == "error" and receipt.end == "reset"
    assert receipt.error and receipt.error.errno == errno.EBADMSG
    assert "notified" not in receipt.stages and "shut" not in receipt.stages
    assert peer.seen(1)[0].end == "reset"
    peer.stop()


@pytest.mark.parametrize("timeout", [None, FOREVER])
@pytest.mark.parametrize("courtesy", ["orderly", "full"])
def test_tls_thread_in_recv_wakes(
    peers: Peers, certificate: Certificate, courtesy: Any, timeout: float | None
) -> None:
    """It can only be woken by an end of the stream, after which OpenSSL may say no farewell."""
    peer = peers.listen("clean", tls=certificate)
    with tls_client(peer.address, certificate) as sock:
        sock.settimeout(timeout)
        thread = Inside(sock, lambda s: s.recv(1))
        receipt = finack.close(sock, Policy(courtesy=courtesy))
        assert thread.left() == b"" or isinstance(thread.result, OSError)
    assert receipt.held is False and not receipt.tombstone
    seen = peer.seen(1)[0]
    # Its own farewell then comes to a socket that doesn't take any input.
    assert seen.end != "open" and seen.close_notify == ("notified" in receipt.stages)
    peer.stop()


def test_tls_thread_in_recv_takes_none_of_the_time_to_send(
    peers: Peers, certificate: Certificate
) -> None:
    """There is nothing to be sent."""
    peer = peers.listen("clean", tls=certificate)
    with tls_client(peer.address, certificate) as sock:
        thread = Inside(sock, lambda s: s.recv(1))
        receipt = finack.close(sock, Policy(flush=0))
        assert thread.left() == b"" or isinstance(thread.result, OSError)
    assert "flushed" in receipt.stages and receipt.phase != "flush"
    assert peer.seen(1)[0].close_notify == ("notified" in receipt.stages)
    peer.stop()


def test_a_thread_that_comes_during_the_close_is_refused(
    peers: Peers, certificate: Certificate
) -> None:
    """It gets neither into OpenSSL, which we use, nor at what is on the wire."""
    peer = peers.listen("mute", tls=certificate)
    with tls_client(peer.address, certificate) as sock:
        policy = Policy(courtesy="full", farewell=FOREVER, linger=0, total=FOREVER)
        closing = threading.Thread(target=finack.close, args=(sock, policy))
        closing.start()
        until(lambda: sock.gettimeout() == 0)
        for use in (lambda: sock.recv(1), lambda: sock.send(b"x"), lambda: sock.pending()):
            with pytest.raises(OSError) as error:
                use()
            assert error.value.errno == errno.EBADF
        peer.act("notify")
        closing.join()
    assert "answered" in finack.close(sock).stages
    peer.stop()


@pytest.mark.parametrize("timeout", [None, FOREVER])
def test_tls_thread_in_send_may_finish(
    peers: Peers, certificate: Certificate, timeout: float | None
) -> None:
    size = 8_000_000
    peer = peers.listen("deaf", tls=certificate)
    with tls_client(peer.address, certificate) as sock:
        peer.opened(1)
        sock.settimeout(timeout)
        thread = Inside(sock, lambda s: s.sendall(bytes(size)))
        seen: list[Seen] = []
        reader = threading.Thread(target=lambda: seen.extend(peer.seen(1)))
        reader.start()  # it reads everything from now on
        receipt = finack.close(sock, Policy(flush=FOREVER, linger=FOREVER, total=FOREVER))
        assert thread.left() is None
        reader.join()
    assert receipt.outcome == "truncated"  # by a peer that never answers
    assert seen == [Seen(size, close_notify=True, end="eof", reset_after=False)]
    peer.stop()


def test_tls_thread_that_cant_finish_sending(peers: Peers, certificate: Certificate) -> None:
    peer = peers.listen("deaf", tls=certificate)
    with tls_client(peer.address, certificate) as sock:
        peer.opened(1)
        thread = Inside(sock, lambda s: s.sendall(bytes(20_000_000)))
        receipt = finack.close(sock, Policy(flush=0.05))
        assert isinstance(thread.left(), OSError)
    assert (receipt.outcome, receipt.phase, receipt.end) == ("timed_out", "flush", "reset")
    assert receipt.unsent > 0 and receipt.held is False
    assert peer.seen(1)[0].end == "reset"
    peer.stop()


@pytest.mark.parametrize(
    "policy",
    [
        Policy(flush=0.01, total=0.02),
        Policy(courtesy="abort", total=0.02),
        Policy(scope="descriptor", proof_wait=0),
    ],
)
@pytest.mark.parametrize("allowed", [True, False])
def test_tls_thread_that_stays_in_openssl(
    certificate: Certificate, policy: Policy, allowed: bool
) -> None:
    """It is in no system call that could be ended, and would use the number when it goes on.

    A number that is not allowed any more takes no tombstone: it stays open until then.
    """
    entered, go_on = threading.Event(), threading.Event()

    def hold(*_: object) -> None:
        entered.set()
        go_on.wait(FOREVER)

    context = certificate.server_context()
    context.sni_callback = hold
    seen: list[OSError] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        arguments = (listener.getsockname(), certificate, seen)
        client = threading.Thread(target=shake_hands, args=arguments)
        client.start()
        ours = at_a_high_number(listener.accept()[0])
    with context.wrap_socket(ours, server_side=True, do_handshake_on_connect=False) as sock:
        number = sock.fileno()
        thread = threading.Thread(target=suppress, args=(sock.do_handshake,))
        thread.start()
        assert entered.wait(FOREVER)
        with contextlib.nullcontext() if allowed else descriptors_below(number):
            receipt = finack.close(sock, policy)
        assert_closed(sock)
        assert os.readlink(f"/proc/self/fd/{number}").startswith("pipe:" if allowed else "socket:")
        go_on.set()
        thread.join()
        client.join()
    until(lambda: is_free(number))
    assert receipt.tombstone is allowed and receipt.held is not allowed
    assert ("released" in receipt.stages) is allowed
    if not allowed:
        assert isinstance(receipt.error, OSError) and receipt.error.errno == errno.EMFILE
        assert receipt.outcome in ("error", "aborted", "timed_out")
    elif policy.courtesy == "abort":
        assert (receipt.outcome, receipt.end) == ("aborted", "reset")
    elif policy.scope != "descriptor":
        assert (receipt.outcome, receipt.phase, receipt.end) == ("timed_out", "flush", "reset")
    if allowed or policy.scope != "descriptor":  # else what is open goes on with its handshake
        assert isinstance(seen[0], (ConnectionError, ssl.SSLError))


def shake_hands(address: Any, certificate: Certificate, seen: list[OSError]) -> None:
    """As a client, of a server that breaks off."""
    try:
        tls_client(address, certificate)
    except OSError as error:
        seen.append(error)


def suppress(call: Callable[[], object]) -> None:
    with contextlib.suppress(OSError):
        call()


def test_tls_before_the_handshake(peers: Peers) -> None:
    peer = peers.listen("clean")
    with ssl.create_default_context().wrap_socket(
        socket.create_connection(peer.address),  # type: ignore[arg-type]
        server_hostname="localhost",
        do_handshake_on_connect=False,
    ) as sock:
        receipt = finack.close(sock)
        assert_closed(sock)
    assert receipt.outcome == "graceful" and "notified" not in receipt.stages
    assert peer.seen(1) == [Seen(0, close_notify=False, end="eof", reset_after=False)]
    peer.stop()


@pytest.mark.parametrize("policy", [Policy(courtesy="abort"), Policy(scope="descriptor")])
def test_tls_without_farewell(peers: Peers, certificate: Certificate, policy: Policy) -> None:
    peer = peers.listen("clean", tls=certificate)
    with tls_client(peer.address, certificate) as sock:
        receipt = finack.close(sock, policy)
        assert_closed(sock)
    assert "notified" not in receipt.stages
    seen = peer.seen(1)[0]
    assert not seen.close_notify
    assert seen.end == "reset" or policy.courtesy != "abort"  # session tickets are left unread
    peer.stop()


@pytest.mark.parametrize("spare", range(9))
def test_tls_with_few_descriptors_left(peers: Peers, certificate: Certificate, spare: int) -> None:
    peer = peers.listen("clean", tls=certificate)
    with tls_client(peer.address, certificate) as sock, no_descriptors(spare=spare):
        receipt = finack.close(sock)
    assert receipt.outcome == "graceful"
    assert receipt.held is (None if spare == 0 else False)
    assert peer.seen(1) == [Seen(0, close_notify=True, end="eof", reset_after=False)]
    peer.stop()


def test_tls_of_a_file(peers: Peers, certificate: Certificate) -> None:
    peer = peers.listen("clean", tls=certificate)
    sock = tls_client(peer.address, certificate)
    with sock.makefile("rb") as file:
        number = sock.fileno()
        assert finack.close(sock).outcome == "graceful" and is_free(number)
        with pytest.raises(OSError, match=r"\[Errno 9\]"):
            file.read(1)
    peer.stop()


def test_an_interrupt_leaves_nothing_behind(peers: Peers, certificate: Certificate) -> None:
    peer = peers.listen("mute", tls=certificate)
    with tls_client(peer.address, certificate) as sock:
        number = sock.fileno()
        timer = threading.Thread(target=interrupt_once_notified, args=(sock,))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            finack.close(sock, Policy(courtesy="full", farewell=FOREVER, total=FOREVER))
        timer.join()
        assert is_free(number)
    assert peer.seen(1)[0].end == "reset"
    peer.stop()


def interrupt_once_notified(sock: ssl.SSLSocket) -> None:
    until(lambda: sock.gettimeout() == 0)
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


@pytest.mark.parametrize("courtesy", ["orderly", "full"])
@pytest.mark.parametrize("early", [False, True])
def test_tls_truncated(peers: Peers, certificate: Certificate, courtesy: Any, early: bool) -> None:
    """The peer ends the stream without close_notify, before the close or while it waits."""
    peer = peers.listen("mute", tls=certificate)
    with tls_client(peer.address, certificate) as sock:
        peer.opened(1)
        if early:
            peer.act("fin")
        else:
            threading.Timer(0.05, peer.act, ("fin",)).start()
        receipt = finack.close(sock, Policy(courtesy=courtesy, farewell=FOREVER, linger=FOREVER))
    assert (receipt.outcome, receipt.end) == ("truncated", "fin")
    assert {"notified", "eof"} <= set(receipt.stages)
    assert "answered" not in receipt.stages and not receipt.unverifiable
    assert peer.seen(1) == [Seen(0, close_notify=True, end="eof", reset_after=False)]
    peer.stop()


@pytest.mark.parametrize("courtesy", ["orderly", "full"])
def test_tls_input_that_is_none(certificate: Certificate, courtesy: Any) -> None:
    """Somebody on the way has changed it: the peer is told so, which is no close_notify."""
    told: list[object] = []

    def serve() -> None:
        with certificate.server_context().wrap_socket(
            listener.accept()[0], server_side=True
        ) as tls:
            os.write(tls.fileno(), garbage)
            with pytest.raises(ssl.SSLError) as error:
                tls.recv(1)
            told.append(error.value.reason)

    garbage = b"\x17\x03\x03\x00\x20" + bytes(32)  # a record
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=serve)
        server.start()
        with tls_client(listener.getsockname(), certificate) as sock:
            with socket.socket(fileno=os.dup(sock.fileno())) as wire:
                until(lambda: wire.recv(1 << 16, socket.MSG_PEEK).endswith(garbage))
            receipt = finack.close(sock, Policy(courtesy=courtesy, linger=FOREVER))
        server.join()
    assert (receipt.outcome, receipt.end, receipt.error) == ("truncated", "fin", None)
    assert "eof" in receipt.stages and not {"notified", "answered"} & set(receipt.stages)
    assert told == ["SSLV3_ALERT_BAD_RECORD_MAC"]


@pytest.mark.parametrize("courtesy", ["orderly", "full"])
def test_tls_reset(peers: Peers, certificate: Certificate, courtesy: Any) -> None:
    """While the close waits: that is no end of the stream."""
    peer = peers.listen("mute", tls=certificate)
    with tls_client(peer.address, certificate) as sock:
        peer.opened(1)
        threading.Timer(0.05, peer.act, ("reset",)).start()
        receipt = finack.close(sock, Policy(courtesy=courtesy, farewell=FOREVER, linger=FOREVER))
    assert (receipt.outcome, receipt.end) == ("reset", "reset")
    assert receipt.error and receipt.error.errno == errno.ECONNRESET
    assert not {"eof", "answered"} & set(receipt.stages)
    peer.stop()


def fill(sock: ssl.SSLSocket) -> None:
    """Until a record is written in part."""
    with pytest.raises(ssl.SSLWantWriteError):
        while True:
            sock.send(bytes(16000))


def meet(sock: ssl.SSLSocket, peer: Peer, what: str) -> None:
    """The program uses its session once more. It can't complete the record so."""
    if what == "fin":
        peer.act("fin")
        until(lambda: has_ended(sock))
    else:
        with contextlib.suppress(OSError):
            getattr(sock, what)(*[1] if what == "recv" else [])


def has_ended(sock: socket.socket) -> bool:
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLRDHUP)
    return bool(poll.poll(0))


MEETS = ["", "recv", "fin recv", "fin recv recv", "unwrap", "unwrap recv", "unwrap unwrap"]
MEETS += ["unwrap fin recv", "recv unwrap fin recv"]


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("meets", MEETS)
def test_tls_half_written(peers: Peers, certificate: Certificate, meets: str, exact: bool) -> None:
    """A record that is on its way in part can't be completed, whatever the program did since."""
    peer = peers.listen("deaf", tls=certificate)
    with tls_client(peer.address, certificate, exact=exact) as sock:
        peer.opened(1)
        sock.setblocking(False)
        fill(sock)
        for what in meets.split():
            meet(sock, peer, what)
        receipt = finack.close(sock, Policy(courtesy="prompt"))
    assert (receipt.outcome, receipt.end) == ("error", "reset")
    assert receipt.error and receipt.error.errno == errno.EBADMSG
    assert not {"notified", "shut"} & set(receipt.stages)
    assert peer.seen(1)[0].end == "reset"
    peer.stop()


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("meets", MEETS)
def test_tls_wholly_written(
    peers: Peers, certificate: Certificate, meets: str, exact: bool
) -> None:
    """The same with nothing missing."""
    peer = peers.listen("mute", tls=certificate)
    with tls_client(peer.address, certificate, exact=exact) as sock:
        peer.opened(1)
        sock.sendall(b"hello")
        sock.setblocking(False)
        for what in meets.split():
            meet(sock, peer, what)
        receipt = finack.close(sock, Policy(linger=0.01, orphan="leave"))
    assert receipt.error is None and "shut" in receipt.stages
    seen = peer.seen(1)[0]
    assert (seen.received, seen.end) == (5, "eof")
    peer.stop()


@pytest.mark.parametrize("spare", range(9))
def test_tls_half_written_with_few_descriptors_left(
    peers: Peers, certificate: Certificate, spare: int
) -> None:
    peer = peers.listen("deaf", tls=certificate)
    with tls_client(peer.address, certificate) as sock:
        peer.opened(1)
        sock.setblocking(False)
        fill(sock)
        with no_descriptors(spare=spare):
            receipt = finack.close(sock)
    assert (receipt.outcome, receipt.phase, receipt.end) == ("error", "farewell", "reset")
    assert receipt.error and receipt.error.errno == errno.EBADMSG
    assert peer.seen(1)[0].end == "reset"
    peer.stop()


@pytest.mark.parametrize("meets", ["", "recv"])
def test_tls_half_written_where_openssl_cannot_be_asked(
    peers: Peers, certificate: Certificate, monkeypatch: pytest.MonkeyPatch, meets: str
) -> None:
    monkeypatch.setattr(_openssl, "why_not", lambda: "as in a debug build")
    test_tls_half_written(peers, certificate, meets, exact=True)


@pytest.mark.parametrize("size", [100, 300_000])
def test_tls_input_is_counted(peers: Peers, certificate: Certificate, size: int) -> None:
    """It is thrown away on both sides of our farewell, and the answer behind it is found."""
    peer = peers.listen("echo", tls=certificate)
    with tls_client(peer.address, certificate) as sock:
        peer.opened(1)
        sock.sendall(bytes(size))
        receipt = finack.close(sock, Policy(farewell=FOREVER, linger=FOREVER, total=FOREVER))
    assert (receipt.outcome, receipt.discarded) == ("graceful", size)
    assert "answered" in receipt.stages
    assert peer.seen(1) == [Seen(size, close_notify=True, end="eof", reset_after=False)]
    peer.stop()


def test_tls_input_on_both_sides_of_our_farewell_is_counted(certificate: Certificate) -> None:
    """Some is there before close_notify is written, and more when it is."""

    def send(size: int) -> None:
        before = unread(copy)
        theirs.sendall(bytes(size))
        until(lambda: unread(copy) > before)

    def on_message(_: object, direction: str, __: object, kind: int, *___: object) -> None:
        if direction == "write" and kind == 21:  # an alert: close_notify
            send(1000)
            answer.start()

    answer = threading.Thread(target=lambda: theirs.unwrap().close())
    context = certificate.client_context()
    context._msg_callback = on_message  # type: ignore[attr-defined]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepted: list[ssl.SSLSocket] = []
        server = threading.Thread(target=serve_one, args=(listener, certificate, accepted))
        server.start()
        plain = socket.create_connection(listener.getsockname())
        copy = plain.dup()
        sock = context.wrap_socket(plain, server_hostname="localhost")
        server.join()
    theirs = accepted[0]
    with theirs, sock, copy:
        send(100)
        receipt = finack.close(sock, Policy(farewell=FOREVER, linger=FOREVER, total=FOREVER))
        answer.join()
    assert (receipt.end, receipt.discarded) == ("fin", 1100)
    assert {"notified", "answered"} <= set(receipt.stages)


def serve_one(
    listener: socket.socket, certificate: Certificate, accepted: list[ssl.SSLSocket]
) -> None:
    accepted.append(certificate.server_context().wrap_socket(listener.accept()[0], True))


def unread(sock: socket.socket) -> int:
    """Bytes that the kernel has for it."""
    return int.from_bytes(fcntl.ioctl(sock, termios.FIONREAD, bytes(4)), sys.byteorder)


@pytest.mark.parametrize("courtesy", ["orderly", "full"])
def test_tls_truncated_and_the_program_has_met_it(
    peers: Peers, certificate: Certificate, courtesy: Any
) -> None:
    """OpenSSL says no close_notify any more."""
    peer = peers.listen("mute", tls=certificate)
    with tls_client(peer.address, certificate, exact=True) as sock:
        peer.opened(1)
        peer.act("fin")
        with contextlib.suppress(ssl.SSLError):  # of the first 3.11, of which ssl knows nothing
            assert sock.recv(1) == b""  # of an SSLEOFError, which ssl suppresses
        receipt = finack.close(sock, Policy(courtesy=courtesy))
    assert (receipt.outcome, receipt.end) == ("truncated", "fin")
    assert not {"notified", "answered"} & set(receipt.stages)
    assert peer.seen(1) == [Seen(0, close_notify=False, end="eof", reset_after=False)]
    peer.stop()


def test_tls_farewell_that_was_said_before(peers: Peers, certificate: Certificate) -> None:
    """By the program, which did not wait for the answer."""
    peer = peers.listen("mute", tls=certificate)
    with tls_client(peer.address, certificate) as sock:
        peer.opened(1)
        sock.settimeout(0)
        with pytest.raises(ssl.SSLWantReadError):
            sock._sslobj.shutdown()  # type: ignore[attr-defined]
        receipt = finack.close(sock, Policy(linger=0.05))
    assert "notified" in receipt.stages
    assert peer.seen(1) == [Seen(0, close_notify=True, end="eof", reset_after=False)]
    peer.stop()
