import grpc

from shop import BASE, tell

with grpc.secure_channel(BASE.removeprefix("https://") + ":443", grpc.ssl_channel_credentials()) as channel:
    unary = channel.unary_unary("/shop.Echo/Unary")(b"one", timeout=60).decode()
    both = channel.stream_stream("/shop.Echo/Stream")
    # Each question is asked when the one before was answered: both directions are open at once.
    answers = []

    def questions():
        for number in range(3):
            while len(answers) < number:
                pass
            yield f"{number}".encode()

    for answer in both(questions(), timeout=60):
        answers.append(answer.decode())
    tell("own", f"{unary}, {answers}")
