"""A stream client of another language: Python's websockets, signed with cryptography.

Usage: streams.py BASE_URL KEY_ID PRIVATE_KEY_FILE

Subscribes to the book, trades, fills and orders of one market, trades in it over REST, and holds
the book that the stream gives against the one that REST gives. Exits with 1 on any difference.
"""

import asyncio
import base64
import json
import sys
import time
import urllib.request
from decimal import Decimal

import websockets
from cryptography.hazmat.primitives.serialization import load_pem_private_key

STREAM_PATH = "/trade-api/ws/v2"


class Exchange:
    def __init__(self, base_url, key_id, key_file):
        self.base_url = base_url
        self.root, self.prefix = base_url.split("/trade-api/", 1)
        self.prefix = "/trade-api/" + self.prefix
        self.key_id = key_id
        with open(key_file, "rb") as file:
            self.key = load_pem_private_key(file.read(), password=None)

    def headers(self, method, path):
        timestamp = str(int(time.time() * 1000))
        signature = self.key.sign((timestamp + method + path).encode())
        return {
            "KALSHI-ACCESS-KEY": self.key_id,
            "KALSHI-ACCESS-TIMESTAMP": timestamp,
            "KALSHI-ACCESS-SIGNATURE": base64.b64encode(signature).decode(),
        }

    def call(self, method, path, body=None):
        headers = self.headers(method, self.prefix + path.split("?")[0])
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        request = urllib.request.Request(self.base_url + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=10) as response:
            text = response.read()
        return json.loads(text) if text else None

    def connect(self):
        url = self.root.replace("http://", "ws://") + STREAM_PATH
        return websockets.connect(url, additional_headers=self.headers("GET", STREAM_PATH))


class Book:
    """Levels by (side, price), from a snapshot and the changes after it."""

    def __init__(self, snapshot):
        self.levels = {}
        for side, key in (("yes", "yes_dollars_fp"), ("no", "no_dollars_fp")):
            for price, count in snapshot.get(key, []):
                self.levels[side, Decimal(price)] = Decimal(count)

    def apply(self, delta):
        place = delta["side"], Decimal(delta["price_dollars"])
        count = self.levels.pop(place, Decimal(0)) + Decimal(delta["delta_fp"])
        assert count >= 0, f"a level below zero: {delta}"
        if count:
            self.levels[place] = count


async def frame(socket):
    return json.loads(await asyncio.wait_for(socket.recv(), timeout=10))


def order(ticker, side, price, count, **more):
    return {
        "ticker": ticker,
        "side": side,
        "price": price,
        "count": count,
        "time_in_force": "good_till_canceled",
        "self_trade_prevention_type": "maker",
        **more,
    }


async def main():
    exchange = Exchange(*sys.argv[1:4])
    market = exchange.call("GET", "/markets?status=open&limit=1")["markets"][0]
    ticker = market["ticker"]
    async with exchange.connect() as socket:
        channels = ["orderbook_delta", "trade", "fill", "user_orders"]
        params = {"channels": channels, "market_tickers": [ticker], "use_yes_price": False}
        await socket.send(json.dumps({"id": 1, "cmd": "subscribe", "params": params}))
        acknowledged, book, sequence, sid = set(), None, None, None
        while len(acknowledged) < len(channels) or book is None:
            message = await frame(socket)
            if message["type"] == "subscribed":
                acknowledged.add(message["msg"]["channel"])
            elif message["type"] == "orderbook_snapshot":
                book, sequence, sid = Book(message["msg"]), message["seq"], message["sid"]
            else:
                raise AssertionError(f"unexpected: {message}")
        assert acknowledged == set(channels), acknowledged

        # One order that trades with the book, one that rests and is canceled.
        taken = exchange.call(
            "POST", "/portfolio/events/orders",
            order(ticker, "bid", market["yes_ask_dollars"], "2.50", client_order_id="stream-1"),
        )
        assert Decimal(taken["fill_count"]) == Decimal("2.50"), taken
        rested = exchange.call(
            "POST", "/portfolio/events/orders",
            order(ticker, "bid", market["price_ranges"][0]["step"], "3.00"),
        )
        exchange.call("DELETE", f"/portfolio/events/orders/{rested['order_id']}?market_ticker={ticker}")

        deltas, trades, fills, statuses = 0, [], [], []
        while statuses.count("canceled") < 1:
            message = await frame(socket)
            msg = message["msg"]
            if message["type"] == "orderbook_delta":
                assert (message["sid"], message["seq"]) == (sid, sequence + 1), message
                sequence += 1
                deltas += 1
                book.apply(msg)
            elif message["type"] == "trade":
                trades.append(msg)
            elif message["type"] == "fill":
                fills.append(msg)
            elif message["type"] == "user_order":
                statuses.append(msg["status"])
        assert deltas >= 3, deltas
        assert sum(Decimal(fill["count_fp"]) for fill in fills) == Decimal("2.50"), fills
        assert all(fill["client_order_id"] == "stream-1" for fill in fills), fills
        assert {fill["trade_id"] for fill in fills} <= {trade["trade_id"] for trade in trades}
        assert statuses[0] == "executed", statuses

        there = exchange.call("GET", f"/markets/{ticker}/orderbook")["orderbook_fp"]
        levels = Book({f"{side}_fp": there[side] for side in ("yes_dollars", "no_dollars")}).levels
        assert book.levels == levels, "the stream's book is not the exchange's"

        await socket.send(json.dumps({"id": 2, "cmd": "dance"}))
        refusal = await frame(socket)
        assert (refusal["type"], refusal["msg"]["code"]) == ("error", 5), refusal
    print(f"streams: {deltas} changes, {len(fills)} fills, {len(book.levels)} levels agree")


asyncio.run(main())
