//! The clearing house by its client: access, money that moves once, links of reports, saved states.

use std::time::Duration;

use chrono::NaiveDate;
use kalshi_sdk::{
    Client, Effect, Environment, Error,
    klear::{
        Klear, OperationId,
        types::{WithdrawSettlementBalanceRequest, WithdrawalStatus},
    },
    perps::types::{BookSide, CreateMarginOrderRequest, SelfTradePreventionType, TimeInForce},
};
use kalshi_sim::{Exchange, Fault, FaultKind, PerpsMarketPlan, Role};

use crate::{client_with, status};

const TICKER: &str = "KXTESTPERP";
const DAY: Duration = Duration::from_secs(86_400);

fn dollars(text: &str) -> kalshi_sdk::Dollars {
    text.parse().expect("dollars")
}

/// Starts an exchange that stands still, with a market in which a contract is worth 50 dollars.
async fn exchange() -> Exchange {
    let exchange = Exchange::start().await.expect("it starts");
    exchange.clock().freeze();
    exchange.perps().list(PerpsMarketPlan::new(TICKER, dollars("50.00"))).expect("it is listed");
    exchange
}

async fn place(client: &Client, side: BookSide, count: &str) -> Result<(), Error> {
    let order = CreateMarginOrderRequest::builder()
        .ticker(TICKER)
        .client_order_id(format!("{side}-{count}"))
        .side(side)
        .count(count)
        .price("50.00")
        .time_in_force(TimeInForce::GoodTillCanceled)
        .self_trade_prevention_type(SelfTradePreventionType::TakerAtCross);
    client.perps().create_margin_order().body(order).send().await.map(|_| ())
}

/// Lets the trader buy contracts from the maker.
async fn trade(exchange: &Exchange, count: &str) {
    for (role, side) in [(Role::Maker, BookSide::Ask), (Role::Trader, BookSide::Bid)] {
        let client = exchange.client(role).expect("it is sound");
        place(&client, side, count).await.expect("it is taken");
    }
}

async fn withdraw(klear: &Klear, amount: &str) -> Result<String, Error> {
    let body = WithdrawSettlementBalanceRequest::builder().amount(amount);
    Ok(klear.withdraw_settlement_balance().body(body).send().await?.into_inner().id)
}

/// Returns what is available and what is locked, in hundredths of a cent.
async fn balance(klear: &Klear) -> (i64, i64) {
    let balance = klear.get_settlement_balance().send().await.expect("a balance");
    let locked = balance.locked_balance_centicents.expect("it is sent");
    (balance.balance_available_centicents.as_units(), locked.as_units())
}

#[tokio::test]
async fn only_its_own_token_lets_an_administrator_in_and_nothing_shows_it() {
    let exchange = exchange().await;
    let token = exchange.klear().token(Role::Trader).expect("a token").clone();
    let other = exchange.klear().token(Role::Maker).expect("a token").clone();
    assert!(!format!("{token:?} {exchange:?}").contains(token.access_token()));
    assert_ne!(token, other);
    let environment = exchange.environment();
    let ask = async |id: &str, secret: &str, environment: Environment| {
        let builder = Klear::builder().with_environment(environment).with_token(id, secret);
        builder.build().expect("it is sound").get_settlement_balance().send().await
    };
    let (id, secret) = (token.admin_user_id(), token.access_token());
    ask(id, secret, environment.clone()).await.expect("it is let in");
    // The environment by the URL of the clearing house itself.
    let own = exchange.klear().base_url().parse().expect("an environment");
    ask(id, secret, own).await.expect("it is let in");
    for (id, secret) in [
        (id, other.access_token()),
        (other.admin_user_id(), secret),
        ("admin-none", secret),
        (id, "wrong"),
    ] {
        let refused = ask(id, secret, environment.clone()).await.expect_err("it is refused");
        assert_eq!((status(&refused), refused.code()), (401, Some("authentication_error")));
    }
    let log = format!("{:?}", exchange.requests());
    assert!(log.contains(id) && !log.contains(secret), "{log}");
    // One who reads changes nothing, and groups are for FCM members.
    let reader = exchange.klear().client(Role::Reader).expect("it is sound");
    assert_eq!(balance(&reader).await, (100_000_000, 0));
    assert_eq!(status(&withdraw(&reader, "1.00").await.expect_err("it only reads")), 403);
    let trader = exchange.klear().client(Role::Trader).expect("it is sound");
    let groups = trader.get_margin_subtrader_groups().send().await;
    assert_eq!(status(&groups.expect_err("no FCM member")), 403);
}

#[tokio::test]
async fn a_withdrawal_moves_money_once_and_is_paid_out() {
    let exchange = exchange().await;
    let klear = exchange.klear().client(Role::Trader).expect("it is sound");
    let client = exchange.client(Role::Trader).expect("it is sound");
    let settled = async || client.perps().balance().await.expect("a balance").settled_funds;
    // The answer is lost: the history says that it was carried out, and nothing is sent again.
    let lost = Fault::builder(FaultKind::ResetAfter)
        .with_klear_operation(OperationId::WithdrawSettlementBalance)
        .with_key_id("admin-trader")
        .with_times(1)
        .build();
    let json = serde_json::to_string(&lost).expect("it is JSON");
    assert_eq!(serde_json::from_str::<Fault>(&json).expect("a fault"), lost);
    exchange.faults().add(lost).expect("it is sound");
    let cut = withdraw(&klear, "250.00").await.expect_err("it is cut");
    assert_eq!(cut.effect(), Effect::Unknown);
    exchange.faults().assert_all_hit();
    let history = klear.get_settlement_balance_history().send().await.expect("a history");
    let entry = history.entries.first().expect("an entry");
    assert_eq!(
        (entry.reason.as_str(), entry.balance_delta_centicents.as_units()),
        ("withdrawal", -2_500_000)
    );
    assert_eq!(balance(&klear).await, (97_500_000, 2_500_000));
    assert_eq!(settled().await, dollars("9750.00"));
    let state = async |id: &str| {
        let found = klear.get_settlement_balance_withdrawal().id(id).send().await;
        found.map(|found| (found.status.clone(), found.amount))
    };
    let id = entry.business_transaction_id.clone();
    assert_eq!(
        state(&id).await.expect("it is there"),
        (WithdrawalStatus::Pending, dollars("250.00"))
    );
    exchange.clock().advance(Duration::from_secs(1)).expect("it moves");
    assert_eq!(state(&id).await.expect("it is there").0, WithdrawalStatus::Processing);
    exchange.clock().advance(Duration::from_secs(2)).expect("it moves");
    assert_eq!(state(&id).await.expect("it is there").0, WithdrawalStatus::Processed);
    assert_eq!(balance(&klear).await, (97_500_000, 0));
    exchange.klear().fail_withdrawal(&id).expect_err("it is paid out");
    // The document has no key: the same request is another withdrawal.
    let again = withdraw(&klear, "250.00").await.expect("it is taken");
    assert_ne!(again, id);
    assert_eq!(balance(&klear).await, (95_000_000, 2_500_000));
    // One that fails, and one that is canceled, give the money back.
    exchange.klear().fail_withdrawal(&again).expect("it is open");
    assert_eq!(state(&again).await.expect("it is there").0, WithdrawalStatus::Failed);
    let canceled = withdraw(&klear, "0.0001").await.expect("the least there is");
    exchange.klear().cancel_withdrawal(&canceled).expect("it is open");
    assert_eq!(state(&canceled).await.expect("it is there").0, WithdrawalStatus::Cancelled);
    assert_eq!(balance(&klear).await, (97_500_000, 0));
    assert_eq!(settled().await, dollars("9750.00"));
    for (amount, code) in [
        ("9750.0001", "insufficient_balance"),
        ("0.00", "invalid_parameters"),
        ("-1.00", "invalid_parameters"),
    ] {
        let refused = withdraw(&klear, amount).await.expect_err("it is refused");
        assert_eq!((status(&refused), refused.code()), (400, Some(code)), "{amount}");
    }
    // A withdrawal of another member is not there.
    let maker = exchange.klear().client(Role::Maker).expect("it is sound");
    let others = maker.get_settlement_balance_withdrawal().id(&*id).send().await;
    assert_eq!(status(&others.expect_err("not its own")), 400);
    exchange.audit().expect("it adds up");
}

#[tokio::test]
async fn cash_that_positions_need_and_profit_that_is_not_settled_are_not_paid_out() {
    let exchange = exchange().await;
    let klear = exchange.klear().client(Role::Trader).expect("it is sound");
    trade(&exchange, "100").await;
    exchange.perps().set_mark(TICKER, dollars("60.00")).expect("it is there");
    // 10,000 − 2.50 of fees − 450 of initial margin + 1,000 of profit that is not realized: what the
    // ledger can spare is its cash.
    let refused = withdraw(&klear, "9997.51").await.expect_err("more than its cash");
    assert_eq!(refused.code(), Some("insufficient_balance"));
    exchange.clock().advance(DAY).expect("it moves");
    // Settled, and with its margin taken.
    let due = klear.get_obligation_history().send().await.expect("a history").into_inner();
    let paid = due.obligations.iter().find(|one| one.pnl_centicents.as_units() == 10_000_000);
    let paid = paid.expect("the profit of a day");
    assert_eq!(paid.maintenance_margin_centicents.as_units(), 3_000_000);
    let funding: i64 =
        paid.funding_payments.iter().map(|row| row.funding_amount_centicents.as_units()).sum();
    let amount = 10_000_000 - 25_000 - 3_000_000 + funding;
    assert_eq!(paid.amount_centicents.as_units(), amount);
    assert_eq!(balance(&klear).await, (100_000_000 + amount, 0));
    // In the ledger the profit is still not cash.
    let refused = withdraw(&klear, "9997.51").await.expect_err("more than its cash");
    assert_eq!(refused.code(), Some("insufficient_balance"));
    exchange.audit().expect("it adds up");
}

#[tokio::test]
async fn funding_is_found_by_its_time_and_in_its_obligation() {
    let exchange = exchange().await;
    let klear = exchange.klear().client(Role::Trader).expect("it is sound");
    trade(&exchange, "10").await;
    exchange.perps().set_settlement_mark(TICKER, dollars("50.50")).expect("it is there");
    // So that each period of the next day is a full one.
    exchange.clock().advance(DAY).expect("it moves");
    let settlement = exchange.klear().next_settlement();
    exchange.clock().advance(DAY).expect("it moves");
    let payments = klear.get_member_funding_payments().funding_time(settlement).all().await;
    let payments = payments.expect("payments");
    let row = payments.iter().find(|row| row.market_ticker == TICKER).expect("a row");
    assert_eq!(row.settlement_execution_time, settlement);
    // 10 × 50.50 × 0.01, for a full period.
    assert_eq!(row.funding_amount_centicents.as_units(), -50_500);
    assert_eq!(row.notional_value_centicents.as_units(), 5_050_000);
    let history = klear.get_obligation_history().send().await.expect("a history");
    let obligation = history.obligations.iter().find(|one| one.execution_time == settlement);
    let obligation = obligation.expect("an obligation");
    let rows = klear.get_obligation_funding_payments().obligation_id(&*obligation.id).all().await;
    let rows = rows.expect("rows");
    assert_eq!(rows.len(), 3, "a day has three times of funding");
    assert!(rows.iter().any(|one| one.id == row.id));
    let ids = |rows: &[kalshi_sdk::klear::types::FundingPaymentDetail]| {
        rows.iter().map(|row| row.id.clone()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&rows), ids(&obligation.funding_payments));
}

#[tokio::test]
async fn a_long_history_is_read_in_pages_without_a_row_twice() {
    let exchange = exchange().await;
    let klear = exchange.klear().client(Role::Maker).expect("it is sound");
    for cent in 1..=30 {
        withdraw(&klear, &format!("0.{cent:02}")).await.expect("it is taken");
    }
    let mut entries = Vec::new();
    let mut stream = klear.get_settlement_balance_history().limit(7).stream();
    while let Some(entry) = stream.next().await {
        entries.push(entry.expect("an entry"));
        // Rows that come while it is read move nothing.
        if entries.len() % 9 == 0 {
            withdraw(&klear, "0.01").await.expect("it is taken");
        }
    }
    let deltas: Vec<i64> =
        entries.iter().map(|entry| -entry.balance_delta_centicents.as_units()).collect();
    let mut expected: Vec<i64> = (1..=30).rev().map(|cent| cent * 100).collect();
    // The deposit of the start.
    expected.push(-100_000_000);
    assert_eq!(deltas, expected);
    for limit in [0, 501] {
        let refused = klear.get_settlement_balance_history().limit(limit).send().await;
        assert_eq!(status(&refused.expect_err("it is refused")), 400, "{limit}");
    }
}

#[tokio::test]
async fn the_link_of_a_report_is_a_secret_that_works_for_a_while() {
    let exchange = exchange().await;
    let klear = exchange.klear().client(Role::Trader).expect("it is sound");
    trade(&exchange, "10").await;
    let day = exchange.klear().next_settlement().date_naive().pred_opt().expect("a day");
    exchange.clock().advance(DAY).expect("it moves");
    let before = exchange.requests().len();
    let reports = klear.get_margin_reports().start_date(day).end_date(day).send().await;
    let reports = reports.expect("reports").into_inner();
    assert_eq!(exchange.requests().len(), before + 1, "the list is asked for once");
    let shown = format!("{reports:?}");
    let kinds: Vec<&str> = reports.reports.iter().map(|one| one.report_type.as_str()).collect();
    for (kind, content) in [
        ("trade_audit", "50.00"),
        ("position_snapshot", "10.00"),
        ("market_price_snapshot", TICKER),
        ("funding_periods", "funding_time"),
        ("settlement_periods", "pnl_centicents"),
        ("maintenance_margin", "250000"),
        ("corporate_action_payments", ""),
    ] {
        let place = kinds.iter().position(|one| *one == kind);
        let report = &reports.reports[place.unwrap_or_else(|| panic!("{kind} in {kinds:?}"))];
        let url = report.url.expose();
        assert!(!shown.contains(url) && url.starts_with("http://127.0.0.1:"), "{kind}");
        let file = reqwest::get(url).await.expect("it answers");
        assert_eq!(file.status().as_u16(), 200, "{kind}");
        let text = file.text().await.expect("it is whole");
        assert!(text.contains(content), "{kind}: {text}");
    }
    let url = reports.reports[0].url.expose().to_owned();
    let (path, query) = url.split_once('?').expect("a query");
    assert!(!format!("{:?}", exchange.requests()).contains(query), "the log has no link");
    let ask = async |url: &str| reqwest::get(url).await.expect("it answers").status().as_u16();
    let other = exchange.klear().client(Role::Maker).expect("it is sound");
    let others = other.get_margin_reports().start_date(day).end_date(day).send().await;
    let others = others.expect("reports").into_inner().reports[0].url.expose().to_owned();
    let (other_path, _) = others.split_once('?').expect("a query");
    // Without its signature, and that of another file.
    assert_eq!(ask(path).await, 403);
    assert_eq!(ask(&format!("{other_path}?{query}")).await, 403);
    exchange.clock().advance(Duration::from_secs(15 * 60)).expect("it moves");
    assert_eq!(ask(&url).await, 200);
    exchange.clock().advance(Duration::from_secs(1)).expect("it moves");
    assert_eq!(ask(&url).await, 403);
    // 90 days at most, and the end after the start.
    let from = |text: &str| text.parse::<NaiveDate>().expect("a day");
    for (start, end) in [("2026-01-01", "2026-04-02"), ("2026-01-02", "2026-01-01")] {
        let refused = klear.get_margin_reports().start_date(from(start)).end_date(from(end));
        assert_eq!(status(&refused.send().await.expect_err("it is refused")), 400, "{start}");
    }
    let none = klear.get_margin_reports().start_date(from("2026-01-01"));
    let none = none.end_date(from("2026-04-01")).send().await.expect("an empty list");
    assert!(none.reports.is_empty());
}

#[tokio::test]
async fn a_key_of_a_subtrader_trades_perps_for_it_and_the_firm_answers_for_its_position() {
    let exchange = exchange().await;
    let firm = exchange.client(Role::FcmMember).expect("it is sound");
    let klear = exchange.klear().client(Role::FcmMember).expect("it is sound");
    let body = kalshi_sdk::perps::types::CreateMarginFcmSubtraderRequest::builder()
        .subtrader_suffix("walk")
        .require_category_cap(false);
    let made = firm.perps().create_margin_fcm_subtrader().body(body).send().await;
    let subtrader = made.expect("it is opened").into_inner().subtrader_id;
    exchange.perps().deposit_for_subtrader(&subtrader, dollars("500.00")).expect("it is there");
    exchange.perps().deposit_for_subtrader("nobody", dollars("1.00")).expect_err("no subtrader");
    let body = kalshi_sdk::klear::types::GenerateMarginFcmApiKeyRequest::builder()
        .name("desk")
        .fcm_subtrader_id(&*subtrader);
    let key = klear.generate_margin_fcm_api_key().body(body).send().await.expect("a key");
    assert!(!format!("{key:?}").contains("PRIVATE KEY"));
    let credentials =
        kalshi_auth::Credentials::from_pem(&*key.api_key_id, key.private_key.expose());
    let own = client_with(&exchange, credentials.expect("it is a key"));
    let maker = exchange.client(Role::Maker).expect("it is sound");
    place(&maker, BookSide::Ask, "4").await.expect("it rests");
    place(&own, BookSide::Bid, "4").await.expect("it trades");
    assert_eq!(own.perps().balance().await.expect("a balance").subaccounts.len(), 1);
    // Nothing else is open to it: the firm's settings, and event contracts.
    assert_eq!(status(&own.get_balance().send().await.expect_err("not for it")), 403);
    let controls = own.perps().get_fcm_subtrader_risk_controls().send().await;
    assert_eq!(status(&controls.expect_err("not for it")), 403);
    let estimate = klear.get_settlement_estimate_by_asset_class().send().await.expect("estimates");
    let of_subtrader = &estimate.estimates["Crypto"].subtrader_breakdowns[&subtrader];
    assert_eq!(of_subtrader.positions[TICKER].quantity_centicount.as_units(), 400);
    // The firm's balance has the subtrader's cash.
    assert_eq!(balance(&klear).await, (105_000_000, 0));
    let listed = klear.list_margin_fcm_api_keys().fcm_subtrader_id(&*subtrader).send().await;
    let listed = listed.expect("keys").into_inner().api_keys;
    assert_eq!(listed.iter().map(|one| &one.api_key_id).collect::<Vec<_>>(), [&key.api_key_id]);
    let gone = klear.delete_margin_fcm_api_key().api_key_id(&*key.api_key_id).send().await;
    gone.expect("it is gone");
    assert_eq!(status(&own.perps().balance().await.expect_err("its key is gone")), 401);
    exchange.audit().expect("it adds up");
}

#[tokio::test]
async fn a_saved_state_has_the_balance_and_the_obligations_and_no_token() {
    let file = std::env::temp_dir().join(format!("kalshi-sim-klear-{}", std::process::id()));
    let (before, token) = {
        let exchange = exchange().await;
        trade(&exchange, "10").await;
        exchange.clock().advance(DAY).expect("it moves");
        let klear = exchange.klear().client(Role::Trader).expect("it is sound");
        withdraw(&klear, "100.00").await.expect("it is taken");
        exchange.save(&file).expect("it is saved");
        let history = klear.get_obligation_history().send().await.expect("a history");
        let token = exchange.klear().token(Role::Trader).expect("a token").clone();
        ((format!("{:?}", history.into_inner()), balance(&klear).await), token)
    };
    let bytes = std::fs::read(&file).expect("it is there");
    let secret = token.access_token().as_bytes();
    assert!(!bytes.windows(secret.len()).any(|window| window == secret));
    let loaded = Exchange::builder().with_state_file(&file).start().await.expect("it starts");
    std::fs::remove_file(&file).expect("it is there");
    loaded.clock().freeze();
    let klear = loaded.klear().client(Role::Trader).expect("it is sound");
    let history = klear.get_obligation_history().send().await.expect("a history");
    assert_eq!((format!("{:?}", history.into_inner()), balance(&klear).await), before);
    assert_ne!(loaded.klear().token(Role::Trader), Some(&token), "tokens are made anew");
    loaded.audit().expect("it adds up");
}
