"""What the shop's nginx asks for everything that is not a file: an HTTP server and a gRPC server.

Each answer says what arrived, with the digest of the body. nginx alone sees the credential; it says in
`X-Credential` whether it was the right one.
"""

import asyncio
import hashlib
import json
import sys

import grpc
from aiohttp import WSMsgType, web

CHUNK = 256 * 1024
objects = {}


async def told(request):
    """The body is digested as it comes."""
    digest, length = hashlib.sha256(), 0
    async for piece in request.content.iter_chunked(CHUNK):
        digest.update(piece)
        length += len(piece)
    return {
        "credential": request.headers.get("X-Credential", ""),
        "method": request.method,
        "path": request.path,
        "sha256": digest.hexdigest(),
        "length": length,
    }


async def anything(request):
    return web.json_response(await told(request))


async def events(request):
    """Three events, each sent by itself."""
    answer = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
    await answer.prepare(request)
    for number in range(3):
        await answer.write(f"id: {number}\ndata: event {number}\n\n".encode())
        await asyncio.sleep(0.05)
    await answer.write_eof()
    return answer


async def socket(request):
    """Says back what it is told."""
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    async for message in ws:
        if message.type == WSMsgType.TEXT:
            await ws.send_str("echo " + message.data)
        elif message.type == WSMsgType.BINARY:
            await ws.send_bytes(message.data)
    return ws


PIECES = ["Hel", "lo"]


async def stream(request, lines):
    answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await answer.prepare(request)
    for line in lines:
        await answer.write(line.encode())
        await asyncio.sleep(0.02)
    await answer.write_eof()
    return answer


async def chat(request):
    """Chat completions as OpenAI's API has them."""
    asked = await request.json()
    base = {"id": "c1", "created": 1, "model": asked["model"]}
    if not asked.get("stream"):
        message = {"role": "assistant", "content": "".join(PIECES)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
        return web.json_response(base | {"object": "chat.completion", "choices": [choice], "usage": usage})
    lines = []
    for piece in PIECES:
        choice = {"index": 0, "delta": {"content": piece}, "finish_reason": None}
        chunk = base | {"object": "chat.completion.chunk", "choices": [choice]}
        lines.append(f"data: {json.dumps(chunk)}\n\n")
    return await stream(request, lines + ["data: [DONE]\n\n"])


async def messages(request):
    """Messages as Anthropic's API has them."""
    asked = await request.json()
    message = {
        "id": "m1", "type": "message", "role": "assistant", "model": asked["model"], "stop_reason": "end_turn",
        "stop_sequence": None, "usage": {"input_tokens": 1, "output_tokens": 2},
    }
    if not asked.get("stream"):
        return web.json_response(message | {"content": [{"type": "text", "text": "".join(PIECES)}]})
    start = message | {"content": [], "stop_reason": None}
    said = [("message_start", {"message": start})]
    said.append(("content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}}))
    said += [("content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": p}}) for p in PIECES]
    said.append(("content_block_stop", {"index": 0}))
    said.append(("message_delta", {"delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": {"output_tokens": 2}}))
    said.append(("message_stop", {}))
    lines = [f"event: {name}\ndata: {json.dumps({'type': name} | data)}\n\n" for name, data in said]
    return await stream(request, lines)


async def store(request):
    """A bucket, path style: what is put is there."""
    key = request.path
    if request.method == "PUT":
        objects[key] = await request.read()
        return web.Response(headers={"ETag": '"1"'})
    if key not in objects:
        return web.Response(status=404)
    return web.Response(body=objects[key], headers={"ETag": '"1"'})


async def batch(request):
    """Git LFS: where objects go to and come from."""
    asked = await request.json()
    base = f"https://{request.host}/lfs/objects/"
    action = asked["operation"]
    listed = []
    for item in asked["objects"]:
        key = "/lfs/objects/" + item["oid"]
        wanted = action == "download" or key not in objects
        actions = {action: {"href": base + item["oid"]}} if wanted else {}
        listed.append({"oid": item["oid"], "size": item["size"], "actions": actions})
    body = json.dumps({"transfer": "basic", "objects": listed})
    return web.Response(body=body, content_type="application/vnd.git-lfs+json")


async def locks(_request):
    return web.Response(status=404, text='{"message":"no locks here"}', content_type="application/vnd.git-lfs+json")


async def graphql(request):
    """As much of GitHub's API as `gh issue list` needs."""
    asked = await request.json()
    if "__type" in asked["query"]:
        return web.json_response({"data": {}})
    issue = {"number": 7, "title": "It works", "state": "OPEN", "updatedAt": "2030-01-01T00:00:00Z", "labels": {"nodes": [], "totalCount": 0}}
    issues = {"totalCount": 1, "nodes": [issue], "pageInfo": {"hasNextPage": False, "endCursor": None}}
    return web.json_response({"data": {"repository": {"hasIssuesEnabled": True, "issues": issues}}})


PAGE = """<!doctype html><title>Shop</title><pre id="said"></pre><img src="/held"><script>
const tell = (job, text) => { said.textContent += job + " " + text + "\\n"; };
const at = "/m/chromium/";
const text = async (path, options) => (await fetch(at + path, options)).text();
async function shop() {
  tell("get", await text("get"));
  tell("post", await text("post", { method: "POST", body: "posted by chromium" }));
  tell("redirect", await text("redirect"));
  const bulk = await (await fetch(at + "download")).arrayBuffer();
  const sha = new Uint8Array(await crypto.subtle.digest("SHA-256", bulk));
  tell("download", [...sha].map((byte) => byte.toString(16).padStart(2, "0")).join(""));
  tell("upload", await text("upload", { method: "PUT", body: bulk }));
  const events = await new Promise((done, failed) => {
    const source = new EventSource("/events"), seen = [];
    source.onmessage = (event) => { seen.push(event.data); if (seen.length == 3) { source.close(); done(seen.length); } };
    source.onerror = failed;
  });
  const said = await new Promise((done, failed) => {
    const socket = new WebSocket("wss://" + location.host + "/socket");
    socket.onopen = () => socket.send("hello");
    socket.onmessage = (message) => { done(message.data); socket.close(); };
    socket.onerror = failed;
  });
  tell("own", events + " events, " + said);
}
shop().catch((error) => tell("failed", error)).finally(() => fetch("/done", { method: "POST" }));
</script>"""
done = asyncio.Event()


async def page(_request):
    done.clear()
    return web.Response(text=PAGE, content_type="text/html")


async def held(_request):
    """The page is loaded when its script is done."""
    await done.wait()
    return web.Response()


async def finished(_request):
    done.set()
    return web.Response()


class Echo(grpc.GenericRpcHandler):
    """`/shop.Echo/Unary` and the bidirectional `/shop.Echo/Stream`, in bytes without a schema."""

    def service(self, details):
        right = dict(details.invocation_metadata).get("x-credential") == "right"

        async def unary(request, _context):
            return (b"right " if right else b"wrong ") + request

        async def both(requests, _context):
            async for request in requests:
                yield (b"right " if right else b"wrong ") + request

        if details.method == "/shop.Echo/Unary":
            return grpc.unary_unary_rpc_method_handler(unary)
        if details.method == "/shop.Echo/Stream":
            return grpc.stream_stream_rpc_method_handler(both)
        return None


async def main(http, rpc):
    app = web.Application(client_max_size=256 * 1024 * 1024)
    app.router.add_get("/page", page)
    app.router.add_get("/held", held)
    app.router.add_post("/done", finished)
    app.router.add_get("/events", events)
    app.router.add_get("/socket", socket)
    app.router.add_post("/openai/v1/chat/completions", chat)
    app.router.add_post("/anthropic/v1/messages", messages)
    app.router.add_route("*", "/s3/{key:.*}", store)
    app.router.add_route("*", "/lfs/objects/{oid:[0-9a-f]{64}}", store)
    app.router.add_post("/lfs/objects/batch", batch)
    app.router.add_route("*", "/lfs/locks{rest:.*}", locks)
    app.router.add_post("/api/graphql", graphql)
    app.router.add_route("*", "/{path:.*}", anything)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", http).start()
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Echo(),))
    server.add_insecure_port(f"127.0.0.1:{rpc}")
    await server.start()
    print("ready", flush=True)
    await server.wait_for_termination()


asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
