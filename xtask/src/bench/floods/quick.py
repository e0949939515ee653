"""An honest agent: `quick.py HOST SECONDS RATE`. Asks at a steady rate on one connection, and says how long each answer took, from when it
was due, in microseconds."""
import http.client, ssl, sys, time

host, seconds, rate = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
context = ssl.create_default_context()
api = http.client.HTTPSConnection(host, context=context, timeout=30)
took, due, end = [], time.monotonic(), time.monotonic() + seconds
while due < end:
    time.sleep(max(0, due - time.monotonic()))
    api.request("GET", "/echo")
    answer = api.getresponse()
    answer.read()
    if answer.status != 200:
        sys.exit(f"answered with {answer.status}")
    took.append(round((time.monotonic() - due) * 1e6))
    due += 1 / rate
print(*took)
