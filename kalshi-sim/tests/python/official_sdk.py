"""The official Python SDK, unmodified, against the simulator.

Usage: official_sdk.py BASE_URL ADMIN_URL KEY_ID KEY_FILE OTHER_KEY_ID OTHER_KEY_FILE

Makes a key, pages through all markets, places, amends, decreases and cancels orders, trades between
two members, and reads fills, positions, balances and, after a determination, settlements. Exits
with 1 on anything that does not add up.
"""

import json
import sys
import time
import urllib.request
from decimal import Decimal

import kalshi_python_sync as kalshi
from kalshi_python_sync import exceptions


class Member:
    def __init__(self, base_url, key_id, pem):
        configuration = kalshi.Configuration(host=base_url)
        configuration.api_key_id = key_id
        configuration.private_key_pem = pem
        client = kalshi.KalshiClient(configuration)
        self.markets = kalshi.MarketApi(client)
        self.orders = kalshi.OrdersApi(client)
        self.portfolio = kalshi.PortfolioApi(client)
        self.keys = kalshi.ApiKeysApi(client)

    def place(self, ticker, side, price, count, **more):
        return self.orders.create_order_v2(
            ticker=ticker,
            side=side,
            price=str(price),
            count=str(count),
            time_in_force=more.pop("time_in_force", "good_till_canceled"),
            self_trade_prevention_type="maker",
            **more,
        )

    def balance(self):
        return Decimal(self.portfolio.get_balance().balance_dollars)


def read(file):
    with open(file, encoding="ascii") as text:
        return text.read()


def refused(status, call, *arguments, **named):
    try:
        call(*arguments, **named)
    except exceptions.ApiException as error:
        assert error.status == status, error
    else:
        raise AssertionError(f"{call} was not refused")


def tell(admin_url, path, body):
    request = urllib.request.Request(
        admin_url + path,
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
        method="POST",
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        response.read()


def all_markets(member):
    tickers, cursor = [], None
    while True:
        page = member.markets.get_markets(limit=7, cursor=cursor)
        tickers += [market.ticker for market in page.markets]
        cursor = page.cursor
        if not cursor:
            return tickers


def main():
    base_url, admin_url, key_id, key_file, other_id, other_file = sys.argv[1:7]
    trader = Member(base_url, key_id, read(key_file))
    other = Member(base_url, other_id, read(other_file))

    # A key of its own, which then does the rest.
    made = trader.keys.generate_api_key(name="python", scopes=["read", "write"], key_type="rsa")
    names = [key.name for key in trader.keys.get_api_keys().api_keys]
    assert "python" in names, names
    trader = Member(base_url, made.api_key_id, made.private_key)

    tickers = all_markets(trader)
    assert len(tickers) == len(set(tickers)) > 50, len(tickers)
    market = trader.markets.get_markets(limit=1, status="open").markets[0]
    ticker, step = market.ticker, Decimal(market.price_ranges[0].step)

    # An order that rests: amended, decreased, found, canceled.
    low = step
    order = trader.place(ticker, "bid", low, "10.00", client_order_id="python-1")
    assert Decimal(order.remaining_count) == 10, order
    refused(409, trader.place, ticker, "bid", low, "10.00", client_order_id="python-1")
    amended = trader.orders.amend_order_v2(
        order_id=order.order_id,
        ticker=ticker,
        side="bid",
        price=str(low + step),
        count="12.00",
    )
    assert Decimal(amended.remaining_count) == 12, amended
    decreased = trader.orders.decrease_order_v2(
        order_id=order.order_id, reduce_by="5.00", market_ticker=ticker
    )
    assert Decimal(decreased.remaining_count) == 7, decreased
    found = trader.orders.get_order(order_id=order.order_id).order
    assert (found.status, Decimal(found.remaining_count_fp)) == ("resting", 7), found
    resting = trader.orders.get_orders(status="resting", ticker=ticker).orders
    assert [one.order_id for one in resting] == [order.order_id], resting
    canceled = trader.orders.cancel_order_v2(order_id=order.order_id, market_ticker=ticker)
    assert Decimal(canceled.reduced_by) == 7, canceled
    refused(404, trader.orders.cancel_order_v2, order_id=order.order_id, market_ticker=ticker)
    refused(400, trader.place, ticker, "bid", "1.5", "1.00")

    # A trade between two members: the trader buys the best level empty, the other member offers in
    # its place, and the trader buys that too.
    book = trader.markets.get_market(ticker=ticker).market
    price, size = Decimal(book.yes_ask_dollars), Decimal(book.yes_ask_size_fp)
    before = trader.balance()
    taken = trader.place(ticker, "bid", price, size, time_in_force="immediate_or_cancel")
    assert Decimal(taken.fill_count) == size, taken
    offered = other.place(ticker, "ask", price, "3.00")
    assert Decimal(offered.remaining_count) == 3, offered
    bought = trader.place(ticker, "bid", price, "3.00", time_in_force="fill_or_kill")
    assert Decimal(bought.fill_count) == 3, bought
    assert Decimal(bought.average_fill_price) == price, bought

    # Whoever used the key's account before may have traded here too.
    everything = trader.portfolio.get_fills(ticker=ticker).fills
    fills = [fill for fill in everything if fill.order_id in (taken.order_id, bought.order_id)]
    assert sum(Decimal(fill.count_fp) for fill in fills) == size + 3, fills
    held = sum(Decimal(fill.count_fp) for fill in everything)
    positions = trader.portfolio.get_positions(ticker=ticker).market_positions
    assert Decimal(positions[0].position_fp) == held, positions
    paid = sum(
        Decimal(fill.count_fp) * Decimal(fill.yes_price_dollars) + Decimal(fill.fee_cost)
        for fill in fills
    )
    trader.orders.cancel_all_orders()
    after = trader.balance()
    assert before - after == paid, (before, after, paid)
    theirs = {fill.trade_id for fill in other.portfolio.get_fills(ticker=ticker).fills}
    assert theirs & {fill.trade_id for fill in fills}, "no trade between the two members"

    # YES wins: a dollar for each contract.
    tell(admin_url, f"/markets/{ticker}/determine", {"result": "yes"})
    tell(admin_url, "/clock/advance", {"seconds": 3_600})
    deadline = time.monotonic() + 10
    while not (settlements := trader.portfolio.get_settlements(ticker=ticker).settlements):
        assert time.monotonic() < deadline, "no settlement"
        time.sleep(0.1)
    assert settlements[0].market_result == "yes", settlements
    assert Decimal(settlements[0].yes_count_fp) == held, settlements
    assert trader.balance() == after + held, (trader.balance(), after, held)
    print(f"official SDK: {len(tickers)} markets, {len(fills)} fills, {held} contracts settled")


main()
