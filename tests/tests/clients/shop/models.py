"""APIs as clients of models have them: one answer, whole or as a stream of events."""

import asyncio
import json

from aiohttp import web

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
