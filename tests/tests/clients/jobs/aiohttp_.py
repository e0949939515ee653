import asyncio

import aiohttp

from shop import AT, BASE, BULK, POSTED, digest, tell


async def main():
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{AT}/get") as answer:
            tell("get", await answer.text())
        async with session.post(f"{AT}/post", data=POSTED) as answer:
            tell("post", await answer.text())
        async with session.get(f"{AT}/redirect") as answer:
            tell("redirect", await answer.text())
        async with session.get(f"{AT}/download") as answer:
            pieces = [piece async for piece in answer.content.iter_chunked(1 << 18)]
            tell("download", digest(pieces))
        with open(BULK, "rb") as bulk:
            async with session.put(f"{AT}/upload", data=bulk) as answer:
                tell("upload", await answer.text())
        async with session.ws_connect(f"{BASE}/socket") as ws:
            await ws.send_str("hello")
            tell("own", (await ws.receive()).data)


asyncio.run(main())
