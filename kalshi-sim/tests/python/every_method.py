"""Every method of the official Python SDK, against the simulator.

Usage: every_method.py BASE_URL KEY_ID KEY_FILE OTHER_KEY_ID OTHER_KEY_FILE FCM_KEY_ID FCM_KEY_FILE

Calls each method that the SDK's API classes have, in an order in which each finds what it needs,
and lets the SDK decode each answer. Waits after each write until reads have caught up, so it also
passes against an exchange whose reads trail. Exits with 1 if a call fails, or if the SDK has a
method that is not called here.
"""

import datetime
import json
import inspect
import sys
import time
import uuid

import kalshi_python_sync as kalshi
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

SELF = kalshi.UserFilter("self")
VARIANTS = ("_with_http_info", "_without_preload_content")


def methods():
    """The names of all methods of all API classes, as `OrdersApi.get_order`."""
    found = set()
    for name, value in inspect.getmembers(kalshi, inspect.isclass):
        if name.endswith("Api"):
            for method, function in inspect.getmembers(value, inspect.isfunction):
                if not method.startswith("_") and not method.endswith(VARIANTS):
                    found.add(f"{name}.{method}")
    return found


class Member:
    """The API classes with one key. What is called is written down in `called`."""

    def __init__(self, base_url, key_id, key_file, called):
        configuration = kalshi.Configuration(host=base_url)
        configuration.api_key_id = key_id
        with open(key_file, encoding="ascii") as pem:
            configuration.private_key_pem = pem.read()
        self.client = client = kalshi.KalshiClient(configuration)
        # Names stand in one class only.
        self.methods = {}
        for name in methods():
            owner, method = name.split(".")
            assert method not in self.methods, f"{method} is in two classes"
            self.methods[method] = (name, getattr(getattr(kalshi, owner)(client), method))
        self.called = called

    def __getattr__(self, method):
        name, function = self.methods[method]

        def call(*arguments, **named):
            try:
                answer = function(*arguments, **named)
            except Exception as error:
                raise AssertionError(f"{name}: {error}") from error
            self.called.add(name)
            return answer

        return call

    def refused(self, method, code):
        """Calls a method that the exchange refuses with this code."""
        name, function = self.methods[method]
        try:
            function()
        except kalshi.ApiException as error:
            assert json.loads(error.body)["error"]["code"] == code, f"{name}: {error}"
            self.called.add(name)
            return
        raise AssertionError(f"{name} was not refused")


class Walk:
    def __init__(self, base_url, trader, maker, firm):
        self.called = set()
        self.trader = Member(base_url, *trader, self.called)
        self.maker = Member(base_url, *maker, self.called)
        self.firm = Member(base_url, *firm, self.called)
        self.waited = 0.0

    def settle(self):
        """Waits until everything that has happened is readable."""
        begun, now = time.monotonic(), datetime.datetime.now(datetime.timezone.utc)
        while self.trader.get_user_data_timestamp().as_of_time < now:
            assert time.monotonic() < begun + 30, "reads do not catch up"
            time.sleep(0.02)
        self.waited += time.monotonic() - begun

    def public(self):
        me = self.trader
        me.get_exchange_status()
        me.get_exchange_schedule()
        me.get_series_fee_changes(show_historical=True)
        me.get_account_endpoint_costs()
        markets = me.get_markets(status="open", limit=6).markets
        self.tickers = [market.ticker for market in markets]
        self.event = markets[0].event_ticker
        ticker, now = self.tickers[0], int(time.time())
        event = me.get_event(self.event, with_nested_markets=True).event
        series, period = event.series_ticker, {"start_ts": now - 7200, "end_ts": now}
        period["period_interval"] = 60
        me.get_series(series)
        me.get_series_list()
        me.get_events(limit=5, with_nested_markets=True, with_milestones=True)
        me.get_event_metadata(self.event)
        me.get_event_fee_changes()
        me.get_market(ticker)
        me.get_market_orderbook(ticker)
        me.get_market_orderbooks(tickers=self.tickers[:2])
        me.get_trades(limit=10)
        me.get_market_candlesticks(series, ticker, **period)
        me.get_market_candlesticks_by_event(self.event, series, **period)
        me.batch_get_market_candlesticks(",".join(self.tickers[:2]), **period)
        me.get_event_forecast_percentiles_history(
            self.event, series, percentiles=[1000, 5000, 9000], **period
        )
        milestone = me.get_milestones(limit=1, type="basketball_game").milestones[0]
        me.get_milestone(milestone.id)
        me.get_live_datas(milestone_ids=[milestone.id], include_player_stats=True)
        me.get_live_data(milestone.type, milestone.id)
        me.get_live_data_by_milestone(milestone.id)
        me.get_game_stats(milestone.id)
        coin = me.get_events(series_ticker="KXSIMCOIN", status="open", limit=1).events[0]
        me.get_event_live_data(coin.event_ticker, range="1d")
        me.get_weather_index("miami", detailed=True, last_sec=7200)
        me.get_weather_index_calibrations("miami")
        target = me.get_structured_targets(page_size=1).structured_targets[0]
        me.get_structured_target(target.id)
        me.get_filters_for_sports()
        me.get_tags_for_series_categories()
        me.get_incentive_programs(limit=10)
        me.get_historical_cutoff()
        archived = me.get_historical_markets(limit=1).markets[0].ticker
        me.get_historical_market(archived)
        me.get_market_candlesticks_historical(archived, 0, now, 60)
        me.get_trades_historical(limit=10)
        me.get_fills_historical(limit=10)
        me.get_historical_orders(limit=10)
        me.get_historical_positions(limit=10)

    def combos(self):
        me = self.trader
        collections = me.get_multivariate_event_collections(
            status="open", series_ticker="KXMVESIMCROSS", limit=1
        ).multivariate_contracts
        collection = collections[0].collection_ticker
        me.get_multivariate_event_collection(collection)
        legs = []
        for event, side in zip(collections[0].associated_events[:2], ("yes", "no")):
            market = me.get_markets(event_ticker=event.ticker, limit=1).markets[0]
            legs.append(
                {"market_ticker": market.ticker, "event_ticker": event.ticker, "side": side}
            )
        me.create_market_in_multivariate_event_collection(collection, selected_markets=legs)
        me.get_multivariate_events(limit=5)

    def keys(self):
        me = self.trader
        public = ed25519.Ed25519PrivateKey.generate().public_key()
        pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        made = me.create_api_key(name="python", public_key=pem)
        me.generate_api_key(name="python", key_type="ed25519")
        assert made.api_key_id in [key.api_key_id for key in me.get_api_keys().api_keys]
        me.delete_api_key(made.api_key_id)
        me.get_account_api_limits()
        me.get_account_api_usage_level_volume_progress()

    def place(self, member, ticker, side="bid", price="0.0100", count="5.00", **more):
        more.setdefault("time_in_force", "good_till_canceled")
        return member.create_order_v2(
            ticker=ticker,
            side=side,
            price=price,
            count=count,
            self_trade_prevention_type="taker_at_cross",
            **more,
        )

    def orders(self):
        me, ticker = self.trader, self.tickers[0]
        group = me.create_order_group(contracts_limit=100).order_group_id
        me.get_order_groups()
        me.get_order_group(group)
        me.update_order_group_limit(group, contracts_limit=200)
        # The SDK sends no body here unless it is given one, and the exchange wants one.
        me.trigger_order_group(group, body={})
        me.reset_order_group(group, body={})
        me.delete_order_group(group)

        placed = self.place(me, ticker, client_order_id=str(uuid.uuid4()))
        more = {"self_trade_prevention_type": "maker", "time_in_force": "good_till_canceled"}
        batch = me.batch_create_orders_v2(
            orders=[{"ticker": ticker, "side": "bid", "price": "0.0100", "count": "1.00", **more}]
        )
        self.settle()
        assert me.get_order(placed.order_id).order.status == "resting"
        listed = {order.order_id for order in me.get_orders(ticker=ticker).orders}
        assert {placed.order_id, batch.orders[0].order_id} <= listed, listed
        me.get_order_queue_position(placed.order_id)
        me.get_order_queue_positions(market_tickers=ticker)
        self.firm.get_portfolio_resting_order_total_value()
        me.amend_order_v2(placed.order_id, ticker=ticker, side="bid", price="0.0200", count="4.00")
        me.decrease_order_v2(placed.order_id, reduce_by="1.00", market_ticker=ticker)
        me.cancel_order_v2(placed.order_id, market_ticker=ticker)
        me.batch_cancel_orders_v2(
            orders=[{"order_id": batch.orders[0].order_id, "market_ticker": ticker}]
        )
        self.place(me, ticker)
        me.cancel_all_orders()
        taken = self.place(me, ticker, price="0.9900", time_in_force="immediate_or_cancel")
        self.settle()
        assert me.get_orders(ticker=ticker, status="resting").orders == []
        fills = me.get_fills(ticker=ticker, order_id=taken.order_id).fills
        assert fills and {fill.order_id for fill in fills} == {taken.order_id}, fills
        assert me.get_positions(ticker=ticker).market_positions
        # The SDK sends no body and names no type, which the exchange refuses.
        me.refused("upgrade_account_api_usage_level", "invalid_content_type")
        kalshi.AccountApi(me.client).upgrade_account_api_usage_level_with_http_info(
            _headers={"Content-Type": "application/json"}
        )

    def portfolio(self):
        me = self.trader
        before = me.get_balance().balance
        me.get_settlements(limit=10)
        me.get_deposits(limit=10)
        me.get_withdrawals(limit=10)
        number = me.create_subaccount().subaccount_number
        self.settle()
        me.get_subaccount_balances()
        me.apply_subaccount_transfer(
            client_transfer_id=str(uuid.uuid4()),
            from_subaccount=0,
            to_subaccount=number,
            amount_cents=100,
        )
        self.settle()
        assert me.get_balance().balance == before - 100
        me.get_subaccount_transfers(limit=10)
        me.update_subaccount_netting(subaccount_number=number, enabled=True)
        me.get_subaccount_netting()
        moved = me.intra_exchange_instance_transfer(
            source="event_contract",
            destination="event_contract",
            amount=10_000,
            source_exchange_shard=0,
            destination_exchange_shard=1,
        )
        me.get_intra_exchange_instance_transfers(limit=10)
        me.get_intra_exchange_instance_transfer(moved.transfer_id)
        me.set_target_balance_allocation(
            allocations=[
                {"exchange_index": 0, "percent": 60},
                {"exchange_index": 1, "percent": 40},
            ]
        )
        me.get_target_balance_allocation()
        me.set_target_balance_allocation(allocations=[])

    def quoted(self, ticker):
        rfq = self.trader.create_rfq(
            market_ticker=ticker, contracts_fp="10.00", rest_remainder=False
        ).id
        return rfq, self.quote(rfq)

    def quote(self, rfq):
        return self.maker.create_quote(
            rfq_id=rfq, yes_bid="0.4000", no_bid="0.5000", rest_remainder=False
        ).id

    def communications(self):
        me, maker = self.trader, self.maker
        me.get_communications_id()
        rfq, quote = self.quoted(self.tickers[1])
        assert rfq in [one.id for one in me.get_rfqs(user_filter=SELF).rfqs]
        me.get_rfq(rfq)
        assert quote in [one.id for one in maker.get_quotes(user_filter=SELF).quotes]
        maker.get_quote(quote)
        maker.get_rfq_quote(rfq, quote)
        me.accept_rfq_quote(rfq, quote, accepted_side="yes")
        maker.confirm_rfq_quote(rfq, quote, body={})
        rfq, quote = self.quoted(self.tickers[2])
        me.accept_quote(quote, accepted_side="yes")
        maker.confirm_quote(quote, body={})
        rfq, quote = self.quoted(self.tickers[3])
        maker.delete_rfq_quote(rfq, quote)
        maker.delete_quote(self.quote(rfq))
        me.delete_rfq(rfq)

    def blocks(self):
        me, maker, ticker = self.trader, self.maker, self.tickers[0]
        for member in (me, maker):
            self.place(member, ticker)
        self.settle()
        buyer, seller = (one.get_orders(limit=1).orders[0].user_id for one in (me, maker))
        block = me.propose_block_trade(
            buyer_user_id=buyer,
            seller_user_id=seller,
            market_ticker=ticker,
            price_centi_cents=5_000,
            centicount=1_000,
            maker_side="yes",
            expiration_ts="2099-01-01T00:00:00Z",
        ).block_trade_proposal_id
        me.get_block_trade_proposals(limit=10)
        me.accept_block_trade_proposal(block)

    def fcm(self):
        firm = self.firm
        first, second = (one.subtrader_id for one in firm.list_fcm_subtraders().subtraders[:2])
        firm.create_fcm_subtrader(subtrader_suffix=f"p{int(time.time() * 1000) % 10**9}")
        firm.update_fcm_subtrader_blocked_categories(
            subtrader_id=first, category="Sports", blocked=True
        )
        firm.get_fcm_subtrader_blocked_categories(first)
        firm.update_fcm_event_contract_daily_cap(subtrader_id=first, limit="100.0000")
        firm.get_fcm_event_contract_daily_cap(subtrader_id=first)
        firm.delete_fcm_event_contract_daily_cap(first)
        firm.get_fcm_orders(subtrader_id=first)
        firm.get_fcm_fills()
        held = firm.get_fcm_positions(subtrader_id=first).market_positions
        position = next(one for one in held if float(one.position_fp) != 0)
        # One contract of the side that is held.
        sign = 1 if float(position.position_fp) > 0 else -1
        firm.create_fcm_position_transfer(
            source_subtrader_id=first,
            target_subtrader_id=second,
            market_ticker=position.ticker,
            position_centicount=100 * sign,
            price_centicents=5_000,
        )


def main():
    base_url, *keys = sys.argv[1:8]
    walk = Walk(base_url, keys[0:2], keys[2:4], keys[4:6])
    for part in (
        walk.public,
        walk.combos,
        walk.keys,
        walk.orders,
        walk.portfolio,
        walk.communications,
        walk.blocks,
        walk.fcm,
    ):
        part()
    # A method that is new in the SDK is called here before it counts as working.
    missing = methods() - walk.called
    assert not missing, f"methods of the SDK that are not called: {sorted(missing)}"
    print(f"every method: {len(walk.called)} called, {walk.waited:.1f} s of waiting for reads")


if __name__ == "__main__":
    main()
