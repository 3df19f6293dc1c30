//! The clearing house in a process: a day is settled, its report is fetched, and cash is withdrawn.
//!
//! `cargo run -p kalshi-sim --features perps --example klear`
#![expect(clippy::print_stdout, reason = "it reports")]

use std::time::Duration;

use kalshi_sdk::{
    klear::types::{WithdrawSettlementBalanceRequest, WithdrawalStatus},
    perps::types::{BookSide, CreateMarginOrderRequest, SelfTradePreventionType, TimeInForce},
};
use kalshi_sim::{Exchange, Role};

const TICKER: &str = "KXSIMCOINPERP";

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let exchange = Exchange::start().await?;
    exchange.clock().freeze();
    let client = exchange.client(Role::Trader)?;
    // Outside of a test: Klear::builder().with_environment(…).with_token(id, token).
    let klear = exchange.klear().client(Role::Trader)?;

    let market =
        client.perps().get_margin_market().ticker(TICKER).send().await?.into_inner().market;
    let order = CreateMarginOrderRequest::builder()
        .ticker(TICKER)
        .client_order_id("long-1")
        .side(BookSide::Bid)
        .count("100.00")
        .price(market.ask.ok_or("no asks")?)
        .time_in_force(TimeInForce::ImmediateOrCancel)
        .self_trade_prevention_type(SelfTradePreventionType::TakerAtCross);
    client.perps().create_margin_order().body(order).send().await?;

    let estimates = klear.get_settlement_estimate_by_asset_class().send().await?;
    let crypto = estimates.estimates.get("Crypto").and_then(|one| one.user_breakdown.as_ref());
    let crypto = crypto.ok_or("an estimate")?;
    println!("{:?} dollars would be due now", crypto.total_amount_centicents.to_dollars());

    // Past midnight in New York.
    let settlement = exchange.klear().next_settlement();
    exchange.clock().advance(Duration::from_secs(86_400))?;
    let history = klear.get_obligation_history().send().await?;
    let obligation = history.obligations.first().ok_or("the day was settled")?;
    let dollars = |amount: kalshi_sdk::klear::CentiCents| amount.to_dollars().ok_or("out of range");
    println!(
        "settled at {settlement}: profit {}, fees {}, margin {}, in all {}",
        dollars(obligation.pnl_centicents)?,
        dollars(obligation.fees_centicents)?,
        dollars(obligation.maintenance_margin_centicents)?,
        dollars(obligation.amount_centicents)?,
    );

    let day = settlement.date_naive().pred_opt().ok_or("a day")?;
    let reports = klear.get_margin_reports().start_date(day).end_date(day).send().await?;
    for report in &reports.reports {
        // The link lets in whoever has it: fetch it, and write it nowhere.
        let file = reqwest::get(report.url.expose()).await?.error_for_status()?.text().await?;
        println!("{} of {}: {} lines", report.report_type, report.date, file.lines().count());
    }

    let body = WithdrawSettlementBalanceRequest::builder().amount("250.00");
    let id = klear.withdraw_settlement_balance().body(body).send().await?.into_inner().id;
    loop {
        let withdrawal = klear.get_settlement_balance_withdrawal().id(&*id).send().await?;
        println!("{} dollars are {}", withdrawal.amount, withdrawal.status);
        if !matches!(withdrawal.status, WithdrawalStatus::Pending | WithdrawalStatus::Processing) {
            break;
        }
        exchange.clock().advance(Duration::from_secs(1))?;
    }
    let balance = klear.get_settlement_balance().send().await?;
    println!("{} dollars are left", dollars(balance.balance_available_centicents)?);
    exchange.audit()?;
    Ok(())
}
