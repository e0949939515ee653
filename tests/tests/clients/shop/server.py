"""What the shop's nginx asks for everything that is not a file: an HTTP server and a gRPC server.

Each answer says what arrived, with the digest of the body. nginx alone sees the credential; it says in
`X-Credential` whether it was the right one.

    server.py HTTP-PORT GRPC-PORT FILE-FOR-WHAT-ARRIVED
"""

import asyncio
import os
import sys

import buckets
import models
import packages
import rpc
from aiohttp import WSMsgType, web
from arrivals import Digest, note

CHUNK = 256 * 1024


async def anything(request):
    """The body is digested as it comes."""
    digest = Digest()
    async for piece in request.content.iter_chunked(CHUNK):
        digest.add(piece)
    asked = {"method": request.method, "path": request.path, "credential": request.headers.get("X-Credential", "")}
    return web.json_response(asked | digest.told())


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
    """Says back what it is told. `done`: what came in binary messages before is all."""
    ws, digest = web.WebSocketResponse(), Digest()
    await ws.prepare(request)
    async for message in ws:
        if message.type == WSMsgType.BINARY:
            digest.add(message.data)
            await ws.send_bytes(message.data)
        elif message.type == WSMsgType.TEXT and message.data == "done":
            note(request.path, digest)
            await ws.send_str("noted")
        elif message.type == WSMsgType.TEXT:
            await ws.send_str("echo " + message.data)
    return ws


async def graphql(request):
    """As much of GitHub's API as `gh issue list` needs."""
    asked = await request.json()
    if "__type" in asked["query"]:
        return web.json_response({"data": {}})
    issue = {"number": 7, "title": "It works", "state": "OPEN", "updatedAt": "2030-01-01T00:00:00Z", "labels": {"nodes": [], "totalCount": 0}}
    issues = {"totalCount": 1, "nodes": [issue], "pageInfo": {"hasNextPage": False, "endCursor": None}}
    return web.json_response({"data": {"repository": {"hasIssuesEnabled": True, "issues": issues}}})


done = asyncio.Event()


async def page(_request):
    done.clear()
    return web.FileResponse(os.path.join(os.path.dirname(__file__), "page.html"))


async def held(_request):
    """The page is loaded when its script is done."""
    await done.wait()
    return web.Response()


async def finished(_request):
    done.set()
    return web.Response()


async def main(http, grpc):
    app = web.Application(client_max_size=256 * 1024 * 1024)
    app.add_routes(
        [
            web.get("/page", page),
            web.get("/held", held),
            web.post("/done", finished),
            web.get("/events", events),
            web.get("/socket", socket),
            web.post("/openai/v1/chat/completions", models.chat),
            web.post("/anthropic/v1/messages", models.messages),
            web.post("/api/graphql", graphql),
            *buckets.ROUTES,
            *packages.ROUTES,
            web.route("*", "/{path:.*}", anything),
        ]
    )
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", http).start()
    server = await rpc.serve(f"127.0.0.1:{grpc}")
    print("ready", flush=True)
    await server.wait_for_termination()


asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
