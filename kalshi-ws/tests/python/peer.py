"""The exchange's end of a connection, played by Python's websockets for the client of this crate.

Usage: peer.py COMMAND [ARGUMENT ...]

Listens on this machine, runs the command with the address in KALSHI_TEST_PEER, and exits with 1 if
the command fails or if the client does not behave as the other end of RFC 6455.
"""

import asyncio
import json
import os
import random
import sys

import websockets

NOTES = 300
TICKERS = 100
TOO_LONG = 2_000_000
PATIENCE = 60


async def subscribed(peer, sid):
    """Answers the command that opens a subscription, which is longer than 65,535 bytes."""
    text = await peer.recv()
    command = json.loads(text)
    assert command["cmd"] == "subscribe", command["cmd"]
    assert len(command["params"]["market_tickers"]) == TICKERS and len(text) > 65_535
    message = {"channel": "trade", "sid": sid}
    await peer.send(json.dumps({"id": command["id"], "type": "subscribed", "msg": message}))


async def code_of_the_end(peer):
    """The code of the client's close frame."""
    try:
        while True:
            await peer.recv()
    except websockets.ConnectionClosed as closed:
        assert closed.rcvd is not None, "the client left without a close frame"
        return closed.rcvd.code


async def restart(peer):
    """Messages whole and in fragments, pings among them, and the end by the exchange."""
    dice = random.Random(1)
    for number in range(NOTES):
        text = "é" * dice.choice([0, 10, 60, 200, 33_000, 100_000])
        message = json.dumps({"type": "note", "number": number, "text": text}, ensure_ascii=False)
        if number % 3 == 0:
            cuts = sorted(dice.randrange(len(message)) for _ in range(dice.randrange(1, 6)))
            await peer.send([message[a:b] for a, b in zip([0, *cuts], [*cuts, len(message)])])
        else:
            await peer.send(message)
        if number % 50 == 0:
            answer = await peer.ping(os.urandom(dice.randrange(126)))
            await answer
    await peer.close(1012, "restart")
    return await code_of_the_end(peer)


async def overflow(peer):
    """A message that is longer than the client takes."""
    await peer.send("x" * TOO_LONG)
    return await code_of_the_end(peer)


CONNECTIONS = [(restart, 1012), (overflow, 1009), (code_of_the_end, 1000)]


async def main(command):
    results = asyncio.Queue()
    played = iter(CONNECTIONS)

    async def play(peer):
        try:
            act, expected = next(played)
            await subscribed(peer, 1)
            code = await act(peer)
            results.put_nowait(None if code == expected else f"{act.__name__}: closed with {code}")
        except Exception as error:
            results.put_nowait(repr(error))

    async with websockets.serve(play, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        address = f"ws://127.0.0.1:{port}/trade-api/ws/v2"
        client = await asyncio.create_subprocess_exec(
            *command, env={**os.environ, "KALSHI_TEST_PEER": address}
        )
        failed = await client.wait() != 0
        for act, _ in CONNECTIONS:
            try:
                problem = await asyncio.wait_for(results.get(), PATIENCE)
            except asyncio.TimeoutError:
                problem = f"{act.__name__} was not played to its end"
            if problem:
                failed = True
                print(problem, file=sys.stderr)
    if not failed:
        print(f"websockets {websockets.__version__}: {len(CONNECTIONS)} connections as agreed")
    return failed


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))
