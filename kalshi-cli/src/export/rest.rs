//! Lists of the REST API as Parquet tables: the staged lines of JSON, column by column.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    path::Path,
};

use kalshi_sdk::{Count, Dollars, SPEC_VERSION};

use super::parquet::{Column, Kind, Table, TableFile, Value};
use crate::{
    failure::{Failure, Outcome},
    json::Json,
};

/// A table and the member of a row that each of its columns is read from.
#[derive(Debug)]
pub(super) struct Layout {
    table: &'static Table,
    members: &'static [&'static str],
}

/// The columns that trades have wherever they come from. The first and the last ones are null here.
pub(super) const TRADE_COLUMNS: &[Column] = &[
    Column::optional("recv_ts", Kind::Time),
    Column::optional("exch_ts", Kind::Time),
    Column::optional("line", Kind::Sequence),
    Column::optional("epoch", Kind::Integer),
    Column::required("ticker", Kind::Name),
    Column::required("series", Kind::Name),
    Column::required("trade_id", Kind::Text),
    Column::required("yes_price", Kind::Money),
    Column::required("no_price", Kind::Money),
    Column::required("count", Kind::Count),
    Column::required("taker_outcome", Kind::Name),
    Column::required("taker_book_side", Kind::Name),
    Column::optional("is_block", Kind::Flag),
    Column::required("source", Kind::Name),
    Column::required("flags", Kind::Integer),
];

/// Public trades.
pub(super) static TRADES: Layout = Layout {
    table: &Table { name: "trades", columns: TRADE_COLUMNS, is_sorted: false },
    members: &[
        "",
        "created_time",
        "",
        "",
        "ticker",
        "ticker",
        "trade_id",
        "yes_price_dollars",
        "no_price_dollars",
        "count_fp",
        "taker_outcome_side",
        "taker_book_side",
        "is_block_trade",
        "",
        "",
    ],
};

/// Your fills.
pub(super) static FILLS: Layout = Layout {
    table: &Table {
        name: "fills",
        columns: &[
            Column::optional("exch_ts", Kind::Time),
            Column::required("ticker", Kind::Name),
            Column::required("series", Kind::Name),
            Column::required("fill_id", Kind::Text),
            Column::required("trade_id", Kind::Text),
            Column::required("order_id", Kind::Text),
            Column::required("outcome", Kind::Name),
            Column::required("book_side", Kind::Name),
            Column::required("yes_price", Kind::Money),
            Column::required("no_price", Kind::Money),
            Column::required("count", Kind::Count),
            Column::required("fee", Kind::Money),
            Column::required("is_taker", Kind::Flag),
            Column::optional("subaccount", Kind::Integer),
            Column::optional("shard", Kind::Integer),
            Column::required("source", Kind::Name),
        ],
        is_sorted: false,
    },
    members: &[
        "created_time",
        "ticker",
        "ticker",
        "fill_id",
        "trade_id",
        "order_id",
        "outcome_side",
        "book_side",
        "yes_price_dollars",
        "no_price_dollars",
        "count_fp",
        "fee_cost",
        "is_taker",
        "subaccount_number",
        "exchange_index",
        "",
    ],
};

/// Candles.
pub(super) static CANDLES: Layout = Layout {
    table: &Table {
        name: "candles",
        columns: &[
            Column::required("ticker", Kind::Name),
            Column::required("series", Kind::Name),
            Column::required("end_ts", Kind::Time),
            Column::optional("open", Kind::Money),
            Column::optional("high", Kind::Money),
            Column::optional("low", Kind::Money),
            Column::optional("close", Kind::Money),
            Column::optional("mean", Kind::Money),
            Column::optional("previous", Kind::Money),
            Column::optional("yes_bid_open", Kind::Money),
            Column::optional("yes_bid_high", Kind::Money),
            Column::optional("yes_bid_low", Kind::Money),
            Column::optional("yes_bid_close", Kind::Money),
            Column::optional("yes_ask_open", Kind::Money),
            Column::optional("yes_ask_high", Kind::Money),
            Column::optional("yes_ask_low", Kind::Money),
            Column::optional("yes_ask_close", Kind::Money),
            Column::required("volume", Kind::Count),
            Column::required("open_interest", Kind::Count),
            Column::required("source", Kind::Name),
        ],
        is_sorted: false,
    },
    members: &[
        "ticker",
        "ticker",
        "end_period_ts",
        "open_dollars",
        "high_dollars",
        "low_dollars",
        "close_dollars",
        "mean_dollars",
        "previous_dollars",
        "yes_bid_open_dollars",
        "yes_bid_high_dollars",
        "yes_bid_low_dollars",
        "yes_bid_close_dollars",
        "yes_ask_open_dollars",
        "yes_ask_high_dollars",
        "yes_ask_low_dollars",
        "yes_ask_close_dollars",
        "volume_fp",
        "open_interest_fp",
        "",
    ],
};

/// A book as it was at one moment.
pub(super) static BOOK: Layout = Layout {
    table: &Table {
        name: "book",
        columns: &[
            Column::required("recv_ts", Kind::Time),
            Column::required("ticker", Kind::Name),
            Column::required("series", Kind::Name),
            Column::required("side", Kind::Name),
            Column::required("level_no", Kind::Integer),
            Column::required("price", Kind::Money),
            Column::required("count", Kind::Count),
            Column::required("source", Kind::Name),
        ],
        is_sorted: false,
    },
    members: &["at", "ticker", "ticker", "side", "level", "yes_price_dollars", "count_fp", ""],
};

/// Writes the lines of a file as a Parquet file, and returns their number.
///
/// # Errors
///
/// A line that does not fit its table; the disk failed. There is no file then.
pub(super) fn write(lines: &Path, path: &Path, layout: &Layout, source: &str) -> Outcome<u64> {
    let unreadable = |error: &dyn std::fmt::Display| {
        Failure::local(format!("could not read {}: {error}", lines.display()))
    };
    let reader = BufReader::new(File::open(lines).map_err(|error| unreadable(&error))?);
    let mut file = TableFile::create(path.to_owned(), layout.table)?;
    for line in reader.lines() {
        let line = line.map_err(|error| unreadable(&error))?;
        let row = Json::parse(&line).map_err(|error| unreadable(&error))?;
        let values: Vec<Value<'_>> = layout
            .table
            .columns
            .iter()
            .zip(layout.members)
            .map(|(column, member)| value(column, row.get(member)))
            .collect::<Outcome<_>>()?;
        file.row(&values)?;
    }
    file.finish(&[
        ("kalshi.document_version", SPEC_VERSION.to_owned()),
        ("kalshi.source", source.to_owned()),
    ])
}

/// Returns the series of a ticker: what is before its first hyphen.
pub(super) fn series(ticker: &str) -> &str {
    ticker.split_once('-').map_or(ticker, |(series, _)| series)
}

fn value<'a>(column: &Column, json: Option<&'a Json>) -> Outcome<Value<'a>> {
    let name = column.name;
    let wrong = |json: &Json| {
        Failure::local(format!("{name} is {json}, which does not fit its Parquet column"))
    };
    let json = match (name, json) {
        ("source", _) => return Ok(Value::Text("rest")),
        ("flags", _) => return Ok(Value::Number(0)),
        (_, None | Some(Json::Null)) => return Ok(Value::Null),
        (_, Some(json)) => json,
    };
    let number = match (column.kind, json) {
        (Kind::Name, Json::Text(text)) if name == "series" => {
            return Ok(Value::Text(series(text)));
        }
        (Kind::Name | Kind::Text, Json::Text(text)) => return Ok(Value::Text(text)),
        (Kind::Flag, Json::Bool(flag)) => return Ok(Value::Flag(*flag)),
        (Kind::Money, Json::Text(text)) => text.parse().ok().map(Dollars::as_micros),
        (Kind::Count, Json::Text(text)) => text.parse().ok().map(Count::as_hundredths),
        (Kind::Integer | Kind::Sequence, Json::Number(text)) => text.parse().ok(),
        (Kind::Time, Json::Number(text)) => {
            text.parse().ok().and_then(|seconds: i64| seconds.checked_mul(1_000_000))
        }
        (Kind::Time, Json::Text(text)) => micros(text),
        _ => None,
    };
    number.map(Value::Number).ok_or_else(|| wrong(json))
}

/// Returns the microseconds since 1970 of a time; `None` where it has more digits than that.
fn micros(text: &str) -> Option<i64> {
    let time = chrono::DateTime::parse_from_rfc3339(text).ok()?;
    (time.timestamp_subsec_nanos() % 1_000 == 0).then(|| time.timestamp_micros())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_has_its_member() {
        for layout in [&TRADES, &FILLS, &CANDLES, &BOOK] {
            assert_eq!(layout.table.columns.len(), layout.members.len(), "{}", layout.table.name);
        }
    }

    #[test]
    fn values_are_exact_or_refused() {
        let column = |kind| Column::required("price", kind);
        for (kind, json, expected) in [
            (Kind::Money, Json::text("0.560001"), Some(560_001)),
            (Kind::Money, Json::text("-1234567.00"), Some(-1_234_567_000_000)),
            (Kind::Money, Json::text("0.5600001"), None),
            (Kind::Money, Json::number(0.56), None),
            (Kind::Count, Json::text("12.34"), Some(1_234)),
            (Kind::Count, Json::text("12.345"), None),
            (Kind::Time, Json::text("1970-01-01T00:00:01.000002Z"), Some(1_000_002)),
            (Kind::Time, Json::text("1970-01-01T00:00:01.0000025Z"), None),
            (Kind::Time, Json::number(3), Some(3_000_000)),
            (Kind::Time, Json::number(i64::MAX), None),
            (Kind::Integer, Json::number(3), Some(3)),
            (Kind::Integer, Json::number("3.5"), None),
        ] {
            let found = value(&column(kind), Some(&json)).ok();
            assert_eq!(found, expected.map(Value::Number), "{kind:?} {json}");
        }
        assert_eq!(series("KXBTC-26DEC31-T100000"), "KXBTC");
        assert_eq!(series("PLAIN"), "PLAIN");
    }
}
