# SPDX-License-Identifier: MIT
"""Programs that made the extension crash: each runs in a process of its own, and must end well.

They are the first of their kinds; fuzz_core.py looks for others.
"""

import os
import subprocess
import sys
import textwrap

import pytest

CASES = {
    "a stray close, and the close is gone when its entry has news": """
        import asyncio, gc, os, socket
        import finack

        async def main():
            keep = []
            listener = socket.create_server(("127.0.0.1", 0))

            def pair():
                client = socket.create_connection(listener.getsockname())
                client.setblocking(False)
                return client, listener.accept()[0]

            lasting, peer = pair()
            policy = finack.Policy(linger=60, total=60)
            long = asyncio.ensure_future(finack.aclose(lasting, policy))
            await asyncio.sleep(0)
            for _ in range(20):
                client, server = pair()
                copy = os.dup(client.fileno())  # as a child would hold it
                keep.append((copy, server))
                close = asyncio.ensure_future(finack.aclose(client, finack.Policy(linger=0.1)))
                assert await asyncio.to_thread(server.recv, 1) == b""  # it lingers
                inode = os.fstat(copy).st_ino
                for fd in map(int, os.listdir("/proc/self/fd")):
                    try:
                        if fd not in (copy, client.fileno()) and os.fstat(fd).st_ino == inode:
                            os.close(fd)
                    except OSError:
                        pass
                try:
                    await close
                except OSError:
                    pass
                del close, client
                gc.collect()
                server.send(b"x" * 100)  # news, in the next turn
                for _ in range(3):
                    await asyncio.sleep(0)
            peer.close()
            await long

        asyncio.run(main())
        """,
    "the set's own number is another epoll set's": """
        import os, select, socket
        import finack
        from finack import _core

        closes = _core.CloseSet()
        ours, theirs = socket.socketpair()
        policy = finack.Policy(linger=60, total=60)._as_tuple()
        close = _core.Close(closes, ours.detach(), policy, "mine", False, False, None)
        assert close.run() == "wait"
        number = closes.fileno()
        os.close(number)
        stranger = select.epoll()
        if stranger.fileno() != number:
            os.dup2(stranger.fileno(), number)
        read, write = os.pipe()
        stranger.register(read, select.EPOLLIN)
        os.write(write, b"x")
        try:
            closes.poll()
        except OSError:
            pass
        else:
            raise SystemExit("the set took the stranger for itself")
        renewed = closes.fileno()
        assert renewed != number
        theirs.close()
        assert closes.poll() == ["mine"]
        while (step := close.run()) != "finish":
            close.tell("ready" if step == "wait" else "done")
        closes.close()
        assert stranger.poll(0) == [(read, select.EPOLLIN)]
        """,
    "the set's own number is free when a close begins": """
        import os, socket
        import finack
        from finack import _core

        closes = _core.CloseSet()
        policy = finack.Policy(linger=60, total=60)._as_tuple()
        first, peer = socket.socketpair()
        waiting = _core.Close(closes, first.detach(), policy, "first", False, False, None)
        assert waiting.run() == "wait"
        os.close(closes.fileno())
        second, other = socket.socketpair()
        begun = _core.Close(closes, second.detach(), policy, "second", False, False, None)
        begun.run()
        assert sorted(closes.poll()) == ["first", "second"]
        del waiting, begun
        closes.close()
        """,
    "a stray close of the set's descriptor, and closes go on": """
        import asyncio, os, socket
        import finack

        async def main():
            listener = socket.create_server(("127.0.0.1", 0))
            policy = finack.Policy(linger=60, total=60)
            closes, peers, stray = [], [], []
            loop = asyncio.get_running_loop()
            for step in range(3):
                client = socket.create_connection(listener.getsockname())
                client.setblocking(False)
                peers.append(listener.accept()[0])
                if step == 2:  # so that the stranger gets news of the first one's set
                    peers[0].close()
                closes.append(asyncio.ensure_future(finack.aclose(client, policy)))
                assert await asyncio.to_thread(peers[step].recv, 1) == b""  # it lingers
                sets = {
                    int(fd) for fd in os.listdir("/proc/self/fd")
                    if os.path.exists(f"/proc/self/fd/{fd}")
                    and os.readlink(f"/proc/self/fd/{fd}") == "anon_inode:[eventpoll]"
                } - {loop._selector.fileno()}
                # Of the sets, the one that watches the connection, not the witness.
                for fd in sets:
                    if any("events: 8000201d" in line for line in open(f"/proc/self/fdinfo/{fd}")):
                        if step == 0:
                            os.close(fd)
                            stray.append(fd)
            assert len(stray) == 1
            for peer in peers:
                peer.close()
            async with asyncio.timeout(10):
                receipts = await asyncio.gather(*closes)
            assert [receipt.outcome for receipt in receipts] == ["graceful"] * 3, receipts
            listener.close()

        asyncio.run(main())
        finack.run(main())
        """,
    "observers change while one is added or removed": """
        import gc
        import finack

        selector = finack.ProxySelector()
        observers = [lambda event, key: None for _ in range(40)]
        for observer in observers:
            selector.add_observer(observer)

        class Cycle:
            def __init__(self):
                self.me = self

            def __del__(self):
                for observer in observers:
                    try:
                        selector.remove_observer(observer)
                    except ValueError:
                        pass

        gc.disable()
        Cycle()
        gc.set_threshold(1)
        gc.enable()
        selector.add_observer(observers[0])
        gc.set_threshold(700)
        for observer in observers:
            selector.add_observer(observer)
        gc.disable()
        Cycle()
        gc.set_threshold(1)
        gc.enable()
        try:
            selector.remove_observer(observers[39])
        except ValueError:
            pass
        """,
    "observers change while one is compared": """
        import finack

        selector = finack.ProxySelector()

        class Evil:
            def __call__(self, event, key):
                pass

            asked = 0

            def __eq__(self, other):
                Evil.asked += 1
                if Evil.asked > 50:
                    return False
                for _ in range(3):
                    selector.remove_observer(plain)
                selector.add_observer(self)
                return True

        def plain(event, key):
            pass

        for _ in range(200):
            selector.add_observer(plain)
        selector.add_observer(Evil())
        for _ in range(5):
            Evil.asked = 0
            try:
                selector.remove_observer(object())
            except (ValueError, RuntimeError):
                pass

        class Restless:
            def __call__(self, event, key):
                pass

            def __eq__(self, other):
                selector.add_observer(plain)
                return True

        selector = finack.ProxySelector()
        selector.add_observer(Restless())
        try:
            selector.remove_observer(object())
        except RuntimeError:
            pass
        else:
            raise SystemExit("it was found, though they changed all the time")
        """,
    "a key of another make goes while its file is asked for": """
        import selectors, socket
        import finack

        class Key:
            def __init__(self, fd, events):
                self.fd, self.events, self.data = fd, events, None

            @property
            def fileobj(self):
                try:
                    proxy.unregister(self.fd)
                except KeyError:
                    pass
                raise AttributeError("none")

            def __getattr__(self, name):
                return object()

        class Selector(selectors.SelectSelector):
            def register(self, fileobj, events, data=None):
                super().register(fileobj, events, data)
                return Key(fileobj, events)

            def modify(self, fileobj, events, data=None):
                return Key(fileobj, events)

        class Closed:
            def fileno(self):
                return -1

        for call in (lambda fd: proxy.get_key(Closed()), lambda fd: proxy.modify(fd, 2)):
            proxy = finack.ProxySelector(Selector())
            ours, theirs = socket.socketpair()
            proxy.register(ours.fileno(), 1)
            try:
                call(ours.fileno())
            except (AttributeError, OSError, ValueError):
                pass
        """,
    "an answer before there is a question": """
        import socket
        import finack
        from finack import _core

        closes = _core.CloseSet()
        ours, _ = socket.socketpair()
        policy = finack.Policy()._as_tuple()
        close = _core.Close(closes, ours.detach(), policy, None, False, False, None)
        try:
            close.tell("again")
        except ValueError:
            pass
        """,
    "a set and its closes in two threads": """
        import socket, threading
        import finack
        from finack import _core

        policy = finack.Policy(linger=60, total=60, proof="finished")._as_tuple()
        closes, state = _core.CloseSet(), {"close": None, "ended": False}
        calls = {
            "poll": lambda close: closes.poll(),
            "close": lambda close: closes.close() if state["ended"] else closes.fileno(),
            "begin": lambda close: _core.Close(closes, -1, policy, 1, False, False, None),
            "tell": lambda close: close.tell("ready"),
            "run": lambda close: close.run(),
            "left": lambda close: close.left,
            "receipt": lambda close: close.receipt(),
            "error": lambda close: close.error(),
            "fileno": lambda close: close.fileno(),
            "note_answer": lambda close: close.note_answer(),
            "lose": lambda close: close.lose(),
        }
        refused = set()

        def insist(name, call):
            while not state["ended"]:
                try:
                    call(state["close"])
                except RuntimeError:
                    refused.add(name)
                except (AttributeError, OSError, ValueError):
                    pass

        threads = [threading.Thread(target=insist, args=call) for call in calls.items()]
        for thread in threads:
            thread.start()
        for _ in range(1000):
            listener = socket.create_server(("127.0.0.1", 0), backlog=100)
            clients = [socket.create_connection(listener.getsockname()) for _ in range(20)]
            step = None
            while step != "finish":
                try:
                    if state["close"] is None:
                        state["close"] = _core.Close(
                            closes, listener.fileno(), policy, "mine", False, False, None
                        )
                        listener.detach()
                    step = state["close"].run()
                    if step != "finish":
                        state["close"].tell("ready" if step == "wait" else "done")
                except (RuntimeError, ValueError):
                    pass
            state["close"] = None
            for client in clients:
                client.close()
            if refused >= calls.keys():
                break
        state["ended"] = True
        for thread in threads:
            thread.join()
        assert refused >= calls.keys(), f"not refused: {calls.keys() - refused}"
        closes.close()
        """,
    "a set is closed by another thread": """
        import socket, threading
        import finack
        from finack import _core

        policy = finack.Policy(linger=60, total=60, proof="finished")._as_tuple()
        refused = 0
        for _ in range(10000):
            closes = _core.CloseSet()
            listener = socket.create_server(("127.0.0.1", 0), backlog=100)
            clients = [socket.create_connection(listener.getsockname()) for _ in range(20)]
            close = _core.Close(closes, listener.detach(), policy, "mine", False, False, None)

            running = False

            def end_it():
                global refused
                while not running:
                    pass
                while True:
                    try:
                        closes.close()
                    except RuntimeError:
                        refused += 1
                        continue
                    break

            thread = threading.Thread(target=end_it)
            thread.start()
            try:
                running = True
                while close.run() != "finish":
                    close.tell("done")
            except ValueError:
                pass
            thread.join()
            del close
            for client in clients:
                client.close()
            if refused:
                break
        else:
            raise SystemExit("never refused")
        """,
    "a selector is begun twice at a time": """
        import os, selectors
        import finack

        before = os.listdir("/proc/self/fd")
        proxy = finack.ProxySelector.__new__(finack.ProxySelector)

        class Pretender:
            asked = False

            @property
            def __class__(self):
                if not self.asked:
                    self.asked = True
                    proxy.__init__()
                return selectors.SelectSelector

        try:
            proxy.__init__(Pretender())
        except RuntimeError:
            pass
        else:
            raise SystemExit("begun twice")
        proxy.close()
        assert os.listdir("/proc/self/fd") == before
        """,
    "a selector that could not begin is as it was": """
        import os, selectors, socket
        import finack

        class Selector(selectors.SelectSelector):
            def get_map(self):
                return None

        before = os.listdir("/proc/self/fd")
        proxy = finack.ProxySelector.__new__(finack.ProxySelector)
        try:
            proxy.__init__(Selector())
        except ValueError:
            pass
        proxy.__init__()
        ours, theirs = socket.socketpair()
        proxy.register(ours, selectors.EVENT_WRITE)
        assert [key.fileobj for key, _ in proxy.select(0)] == [ours]
        assert proxy.fileno() >= 0
        proxy.close()
        ours.close()
        theirs.close()
        assert os.listdir("/proc/self/fd") == before
        """,
    "a selector is closed while it takes over another one's keys": """
        import selectors
        import finack

        class Key:
            events, data, fileobj = 1, None, None

            @property
            def fd(self):
                proxy.close()
                return 0

        class Selector(selectors.SelectSelector):
            def get_map(self):
                return {0: Key(), 1: Key()}

        proxy = finack.ProxySelector.__new__(finack.ProxySelector)
        try:
            proxy.__init__(Selector())
        except ValueError:
            pass
        else:
            raise SystemExit("it began all the same")
        """,
    "what is no selector": """
        import finack

        for wrong in (5, "selector", object(), finack.EventLoop):
            try:
                finack.EventLoop(wrong)
            except TypeError as error:
                assert "selector" in str(error)
            else:
                raise SystemExit(f"{wrong!r} was accepted")
        """,
    "fileno() gives the loop another selector": """
        import socket
        import finack

        class Exchanging:
            def fileno(self):
                former = loop._selector
                loop._selector = finack.ProxySelector()
                former.close()
                del former
                return number

        loop = finack.EventLoop()
        ours, theirs = socket.socketpair()
        number = ours.fileno()
        for method in loop._add_reader, loop._add_writer, loop._remove_reader, loop._remove_writer:
            loop._add_reader(number, print)
            try:
                method(Exchanging(), *[print] * ("add" in method.__name__))
            except (RuntimeError, ValueError, OSError):
                pass
        """,
    "what is called cancels its own handle": """
        import asyncio
        import finack

        class Cancelling:
            def __getattr__(self, name):
                handle.cancel()
                raise AttributeError(name)

        async def main():
            global handle
            loop = asyncio.get_running_loop()
            handle = loop.call_soon(getattr, Cancelling(), "missing", object())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert handle.cancelled() and handle._callback is None and handle._args is None

        finack.EventLoop().run_until_complete(main())
        """,
    "a list grows while writelines() takes its items": """
        import asyncio, socket
        import finack

        class Growing:  # asked for its bytes since CPython 3.12
            def __buffer__(self, flags):
                lines.extend([b"x" * 100] * 1000)
                return memoryview(b"y")

        async def main():
            loop = asyncio.get_running_loop()
            ours, theirs = socket.socketpair()
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
            try:
                transport.writelines(lines)
            except TypeError:
                pass
            transport.abort()
            theirs.close()
            await asyncio.sleep(0)

        lines = [Growing(), b"z"]
        finack.EventLoop().run_until_complete(main())
        """,
    "a protocol's factory ends the coroutine that connects": """
        import asyncio, gc, socket
        import finack

        def close_it():
            for thing in gc.get_objects():
                if type(thing).__name__ == "Connect":
                    thing.close()
            return asyncio.Protocol()

        async def main():
            loop = asyncio.get_running_loop()
            listener = socket.create_server(("127.0.0.1", 0))
            try:
                await loop.create_connection(close_it, *listener.getsockname())
            except RuntimeError as error:
                assert "closed" in str(error), error
            else:
                raise SystemExit("it was not closed")
            listener.close()

        finack.EventLoop().run_until_complete(main())
        """,
    "a callback ends its transport and raises": """
        import asyncio, socket, sys
        import finack

        class Ending(asyncio.Protocol):
            def connection_made(self, transport):
                self.transport = transport

            def data_received(self, data):
                self.transport._call_connection_lost(None)
                raise ZeroDivisionError

        async def main():
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda *_: None)
            ours, theirs = socket.socketpair()
            await loop.create_connection(Ending, sock=ours)
            theirs.send(b"x")
            for _ in range(5):
                await asyncio.sleep(0)
            theirs.close()

        told = []
        sys.unraisablehook = lambda unraisable: told.append(unraisable.exc_type)
        finack.EventLoop(close_policy=None).run_until_complete(main())
        assert told == [ZeroDivisionError], told
        """,
    "an observer closes the selector that is to watch a transport": """
        import asyncio, os, socket
        import finack

        def close_all(event, key):
            if event == "unregister":
                loop._selector.close()

        async def main():
            stale, theirs = socket.socketpair()
            loop.add_reader(stale, print)
            loop._selector.add_observer(close_all)
            number = stale.detach()
            ours, peer = socket.socketpair()
            ours.setblocking(False)
            os.dup2(ours.fileno(), number)
            taken = socket.socket(fileno=number)
            try:
                await loop.create_connection(asyncio.Protocol, sock=taken)
            except (OSError, RuntimeError, ValueError):
                pass
            finally:
                os._exit(0)  # without a selector the loop can't go on

        loop = finack.EventLoop()
        loop.run_until_complete(main())
        """,
    "a close is taken back while it calls the program": """
        import asyncio, gc, socket
        import finack

        class TakingBack(asyncio.Protocol):
            def connection_made(self, transport):
                self.transport = transport
                self.ended = asyncio.get_running_loop().create_future()

            def resume_writing(self):
                self.take_back()

            def connection_lost(self, error):
                self.take_back()
                self.ended.set_result(error)

            def take_back(self):
                self.transport._close_plainly()
                gc.collect()

        async def main():
            loop = asyncio.get_running_loop()
            for size in (0, 1_000_000):
                ours, theirs = socket.socketpair()
                theirs.setblocking(False)
                transport, protocol = await loop.create_connection(TakingBack, sock=ours)
                transport.write(bytes(size))
                transport.close()
                got = 0
                while data := await loop.sock_recv(theirs, 100_000):
                    got += len(data)
                assert got == size, got
                assert await protocol.ended is None
                theirs.close()

        finack.EventLoop().run_until_complete(main())
        """,
}


@pytest.mark.parametrize("allocator", ["debug", "default"])
@pytest.mark.parametrize("case", CASES)
def test_attack(case: str, allocator: str) -> None:
    source = textwrap.dedent(CASES[case])
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", source],
        env={**os.environ, "PYTHONMALLOC": allocator},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert not ended.stderr
