"""An agent that holds connections and tells when each of them died: `client ROUND WHO WHAT SECONDS`.

Words on standard input: `open ROUND`, `watch` (and try to connect until the kernel says no), `bait`, `close`.
Seconds are of the clock that all processes of a machine share.
"""
import errno, os, select, socket, ssl, sys, time

WHO, HOST, TLS, RAW, AT, *KINDS = sys.argv[1:]
if AT == "-":
    # By name: connections that are relayed unread go to addresses that were asked for.
    AT = socket.gethostbyname(HOST)
BAIT = os.environ.get("AWS_SECRET_ACCESS_KEY", "")
POLL = select.POLLIN | select.POLLRDHUP
DEAD = select.POLLRDHUP | select.POLLHUP | select.POLLERR
UPGRADE = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"


def now():
    return time.clock_gettime(time.CLOCK_MONOTONIC)


def dial(port):
    return socket.create_connection((AT, int(port)), 10)


def greet(port=TLS):
    return ssl.create_default_context().wrap_socket(dial(port), server_hostname=HOST)


def get(name, more=""):
    return f"GET /held/{name} HTTP/1.1\r\nHost: {HOST}:{TLS}\r\n{more}\r\n".encode()


def held(round, kind):
    """An open connection that has been answered."""
    name = f"{round}/{WHO}/{kind}"
    if kind == "tunnel":
        connection = dial(RAW)
        connection.sendall(name.encode() + b"\n")
    else:
        connection = greet()
        connection.sendall(get(name, UPGRADE if kind == "websocket" else ""))
    heard = b""
    while b"moment" not in heard:
        piece = connection.recv(1 << 16)
        if not piece:
            sys.exit(f"{name}: {heard!r}")
        heard += piece
    connection.setblocking(False)
    return connection


def drained(connection):
    """False at its end."""
    try:
        while True:
            if not connection.recv(1 << 16):
                return False
    except (ssl.SSLWantReadError, BlockingIOError):
        return True
    except OSError:
        return False


def denied():
    """A new connection is refused by the kernel, at its socket or at its connect."""
    try:
        with socket.socket() as attempt:
            # Not waited for: packets of a connect that was let through before may be dropped after.
            attempt.setblocking(False)
            return attempt.connect_ex((AT, int(TLS))) == errno.EPERM
    except PermissionError:
        return True


def main():
    poll, open_, words, bait, round, watching = select.poll(), {}, [], None, "-", False
    poll.register(0, select.POLLIN)

    def say(kind, at):
        print("client", round, WHO, kind, at, flush=True)

    say("ready", now())
    while True:
        for fd, event in poll.poll(1 if watching else None):
            if fd:
                kind, connection = open_[fd]
                if event & DEAD or not drained(connection):
                    say(kind, now())
                    poll.unregister(fd)
                continue
            said = os.read(0, 100)
            if not said:
                return
            words += said.decode().splitlines()
        while words:
            word, *more = words.pop(0).split()
            if word == "open":
                round, = more
                for kind in KINDS:
                    connection = held(round, kind)
                    open_[connection.fileno()] = kind, connection
                    poll.register(connection, POLL)
                bait = greet()
                say("open", now())
            elif word == "watch":
                watching = True
            elif word == "bait":
                say("start", now())
                bait.sendall(get("bait", f"X-Key: {BAIT}\r\n"))
            elif word == "close":
                watching = False
                for fd, (_, connection) in open_.items():
                    try:
                        poll.unregister(fd)
                    except KeyError:
                        pass
                    connection.close()
                bait.close()
                open_ = {}
        if watching:
            if denied():
                say("denied", now())
                watching = False


main()
