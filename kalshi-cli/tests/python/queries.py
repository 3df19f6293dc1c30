"""Runs the queries of PARQUET.md in DuckDB and Polars, and compares the answers with expected.json.

Called by the test in the folder that has the tables: queries.py PARQUET.md
"""

import json
import re
import sys
from datetime import datetime, timezone
from decimal import Decimal

import duckdb
import polars as pl

PAGE = open(sys.argv[1], encoding="utf-8").read()
EXPECTED = json.load(open("expected.json", encoding="utf-8"))
MOMENT = "2026-11-25 14:30:00+00"
HOUR = "date=2026-11-25/hour=14"


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def python(text):
    """Runs a block of the page, and returns its variables."""
    names = {"pl": pl, "datetime": datetime}
    exec(text, names)
    return names


def sql(text):
    return duckdb.sql(text).fetchall()


def exact(value, digits):
    """Returns a decimal as an integer in units of its last digit."""
    assert isinstance(value, Decimal), f"{value!r} is no decimal"
    scaled = value.scaleb(digits)
    assert scaled == scaled.to_integral_value(), value
    return str(int(scaled))


def check_sums(rows, expected):
    found = {ticker: [str(n), exact(count, 2), exact(sum_, 8)] for ticker, n, count, sum_ in rows}
    assert found == expected, f"{found} and {expected}"


def days(page):
    """Returns a query of hours as one of the days that they were merged into."""
    return re.sub(r"/hour=\d+", "", page.replace("history/", "days/"))


def text(price, count):
    return [str(price.normalize()), str(count.normalize())]


def check_book(rows, book, where):
    """Compares rows of side, price and count, in any order, with a book."""
    if book is None:
        assert not rows, f"{where}: a book that could not be read"
        return
    for side, expected in zip(("bid", "ask"), book):
        levels = sorted(text(price, count) for which, price, count in rows if which == side)
        wanted = sorted(text(Decimal(price), Decimal(count)) for price, count in expected)
        assert levels == wanted, f"{where}: {side} {levels} and {wanted}"


duckdb.sql("SET TimeZone = 'UTC'")
recorded, exported, book_at, gaps = blocks("sql")
volumes, book_in_polars = blocks("python")

check_sums(sql(recorded), EXPECTED["recorded"])
check_sums(python(volumes)["volumes"].rows(), EXPECTED["recorded"])
check_sums(sql(days(recorded)), EXPECTED["recorded"])
check_sums(python(days(volumes))["volumes"].rows(), EXPECTED["recorded"])
check_sums(sql(exported), EXPECTED["exported"])
assert sum(row[2] for row in sql(gaps)) == EXPECTED["gaps"]

assert MOMENT in book_at and HOUR in book_at
for moment in EXPECTED["books"]:
    time = datetime.fromtimestamp(moment["at"] / 1000, timezone.utc)
    at = time.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + "+00"
    hour = time.strftime("date=%Y-%m-%d/hour=%H")

    def query(page):
        moved = page.replace(MOMENT + ":00", at + ":00").replace(MOMENT, at)
        return moved.replace(HOUR, hour)

    rows = sql(query(book_at))
    check_book(rows, moment["book"], f"DuckDB at {at}")
    if moment["book"]:
        # In its order, too: the best first.
        prices = [[price for which, price, _ in rows if which == side] for side in ("bid", "ask")]
        assert prices == [sorted(prices[0], reverse=True), sorted(prices[1])], prices
    table = python(query(book_in_polars))["book"]
    check_book(table.select("side", "price", "count").rows(), moment["book"], f"Polars at {at}")
    check_book(sql(days(query(book_at))), moment["book"], f"DuckDB by days at {at}")
    table = python(days(query(book_in_polars)))["book"]
    check_book(
        table.select("side", "price", "count").rows(), moment["book"], f"Polars by days at {at}"
    )

print(f"{len(EXPECTED['books'])} books, {len(EXPECTED['recorded'])} markets: equal")
