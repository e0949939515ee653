"""The server of held connections, which tells when each of them died: `upstream ROUND WHO WHAT SECONDS`.

Says so by the last request on it. Downloads and WebSockets go on for as long as they are held.
"""
import select, socket, ssl, sys, threading, time

ADDRESS, TLS, RAW, CHAIN, KEY = sys.argv[1:]
DEAD = select.POLLRDHUP | select.POLLHUP | select.POLLERR
SWITCHING = (b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
             b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
FRAME = b"\x81\x06moment"
PIECE = b"6\r\nmoment\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
WHOLE = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 6\r\n\r\nmoment"
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(CHAIN, KEY)
speaking = threading.Lock()


def serve(connection, encrypted):
    name, regular, buffer = "", b"", b""
    try:
        if encrypted:
            connection = context.wrap_socket(connection, server_side=True)
        poll = select.poll()
        poll.register(connection, select.POLLIN | select.POLLRDHUP)
        while True:
            for _, event in poll.poll(5 if regular else None):
                if event & DEAD:
                    return
                connection.settimeout(0)
                try:
                    piece = connection.recv(1 << 16)
                except (ssl.SSLWantReadError, BlockingIOError):
                    continue
                finally:
                    connection.settimeout(5)
                if not piece:
                    return
                buffer += piece
                if not encrypted and b"\n" in buffer:
                    name, buffer = buffer.decode().strip(), b""
                    connection.sendall(b"moment")
                elif encrypted and b"\r\n\r\n" in buffer:
                    name, buffer = buffer.decode().split()[1].removeprefix("/held/"), b""
                    if name.endswith("/websocket"):
                        connection.sendall(SWITCHING)
                        regular = FRAME
                    elif name.endswith("/download"):
                        connection.sendall(CHUNKED)
                        regular = PIECE
                    else:
                        connection.sendall(WHOLE)
            if regular:
                connection.sendall(regular)
    except OSError:
        pass
    finally:
        at = time.clock_gettime(time.CLOCK_MONOTONIC)
        with speaking:
            print("upstream", *(name or "-/-/-").split("/"), at, flush=True)
        connection.close()


def listen(port, encrypted):
    listener = socket.create_server((ADDRESS, int(port)), backlog=128)

    def accept():
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=serve, args=(connection, encrypted), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()


listen(TLS, True)
listen(RAW, False)
print("upstream - - ready 0", flush=True)
sys.stdin.read()
