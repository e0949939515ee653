from openai import OpenAI

from shop import AT, BASE, BULK, KEY, POSTED, digest, tell

client = OpenAI(base_url=f"{BASE}/openai/v1", api_key=KEY)
# The client's own transport, for what is no chat.
plain = client._client
tell("get", plain.get(f"{AT}/get").text)
tell("post", plain.post(f"{AT}/post", content=POSTED).text)
tell("redirect", plain.get(f"{AT}/redirect").text)
with plain.stream("GET", f"{AT}/download") as answer:
    tell("download", digest(answer.iter_bytes()))
with open(BULK, "rb") as bulk:
    tell("upload", plain.put(f"{AT}/upload", content=bulk.read(), timeout=120).text)
question = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
whole = client.chat.completions.create(**question).choices[0].message.content
pieces = [c.choices[0].delta.content for c in client.chat.completions.create(stream=True, **question)]
tell("own", f"{whole} {pieces}")
