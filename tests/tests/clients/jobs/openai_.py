from openai import OpenAI
from httpx import Response

from shop import AT, BASE, BULK, KEY, POSTED, digest, tell

client = OpenAI(base_url=f"{BASE}/openai/v1", api_key=KEY)
# Its own requests, for what is no chat.
tell("get", client.get(f"{AT}/get", cast_to=Response).text)
tell("post", client.post(f"{AT}/post", cast_to=Response, content=POSTED).text)
tell("redirect", client.get(f"{AT}/redirect", cast_to=Response).text)
tell("download", digest([client.get(f"{AT}/download", cast_to=Response).content]))
with open(BULK, "rb") as bulk:
    tell("upload", client.put(f"{AT}/upload", cast_to=Response, content=bulk.read()).text)
question = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
whole = client.chat.completions.create(**question).choices[0].message.content
pieces = [c.choices[0].delta.content for c in client.chat.completions.create(stream=True, **question)]
tell("own", f"{whole} {pieces}")
