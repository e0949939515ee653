import os
import threading
import time

import grpc

from shop import BASE, BULK, digest, tell


def bulk():
    with open(BULK, "rb") as file:
        while piece := file.read(1 << 18):
            yield piece


with grpc.secure_channel(BASE.removeprefix("https://") + ":443", grpc.ssl_channel_credentials()) as channel:
    unary = channel.unary_unary("/shop.Echo/Unary")(b"one", timeout=60).decode()
    both = channel.stream_stream("/shop.Echo/Stream")
    # Each question is asked when the one before was answered: both directions are open at once. Before the last one nothing is said
    # for a while.
    answered = threading.Semaphore(1)

    def questions():
        for number in range(3):
            answered.acquire()
            if number == 2:
                time.sleep(float(os.environ["IDLE"]))
            yield f"{number}".encode()

    answers = []
    for answer in both(questions(), timeout=150):
        answers.append(answer.decode())
        answered.release()
    channel.stream_unary("/shop.Echo/Upload")(bulk(), timeout=150)
    tell("download", digest(channel.unary_stream("/shop.Echo/Download")(b"", timeout=150)))
    tell("own", f"{unary}, {answers}")
