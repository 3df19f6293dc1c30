//! The answers to the operations of the clearing house.
//!
//! The trait has no default methods: an operation that the document gains does not compile until it
//! stands here.

mod cash;
mod estimates;
mod fcm;
mod funding;
mod margin;
mod obligations;
#[cfg(test)]
mod random_days;
pub(crate) mod reports;
#[cfg(test)]
mod tests;

use http::Method;
use kalshi_sdk::klear::{
    OperationId,
    server::{Operations, dispatch},
};
use kalshi_types::Dollars;

use crate::{
    api::answers,
    engine::ids::AccountId,
    http::{
        query::Query,
        request::{self, Call},
        response::{HandlerResult, Response},
    },
    perps::{
        engine::markets::AssetClass,
        klear::house::{CENTI_CENT, ClearingHouse, Ledger, Member},
    },
    state::State,
};

/// The asset classes of the document that no market here is in.
const OTHER_CLASSES: [&str; 2] = ["Indices", "Energy"];

/// Carries out a request whose token, that of the administrator `id`, has been checked.
pub(crate) fn answer(
    state: &mut State,
    operation: OperationId,
    call: &mut Call<'_>,
    id: Option<&str>,
) -> Response {
    handle(state, operation, call, id).unwrap_or_else(|refusal| refusal)
}

fn handle(
    state: &mut State,
    operation: OperationId,
    call: &mut Call<'_>,
    id: Option<&str>,
) -> HandlerResult {
    let administrator = id.and_then(|id| state.perps.access.get(id));
    let administrator = administrator
        .ok_or_else(|| Response::unauthorized("the bearer token is missing or wrong"))?;
    // An estimate is sent like a write and changes nothing.
    let reads = operation.operation().method == Method::GET
        || operation == OperationId::EstimatePortfolioMaintenanceMargin;
    if administrator.reads_only && !reads {
        return Err(Response::forbidden("this administrator may only read"));
    }
    call.caller = Some(administrator.principal());
    state.advance(call.time());
    dispatch(operation, state, &*call)
}

/// The sources of an answer: the ledger, the house, and the caller's part of it.
struct Desk<'a> {
    ledger: Ledger<'a>,
    house: &'a ClearingHouse,
    member: &'a Member,
    own: AccountId,
}

/// Returns what the caller may read, with every movement of cash taken in.
fn desk<'a>(state: &'a mut State, call: &Call<'_>) -> Result<Desk<'a>, Response> {
    let own = call.caller()?.account;
    let perps = &mut state.perps;
    let ledger = Ledger { engine: &perps.engine, firms: &perps.firms };
    perps.house.collect(ledger);
    let house = &perps.house;
    let member =
        house.member(own).ok_or_else(|| Response::forbidden("this is no clearing member"))?;
    Ok(Desk { ledger, house, member, own })
}

/// Returns an amount as the clearing house sends it; what is below a hundredth of a cent is cut.
fn centi_cents(amount: Dollars) -> i64 {
    amount.as_micros() / CENTI_CENT.as_micros()
}

/// Reads an asset class of the document; `None` for one that no market here is in.
fn asset_class(text: &str) -> Result<Option<AssetClass>, Response> {
    request::word("asset_class", text, |text| {
        AssetClass::parse(text).map(Some).or(OTHER_CLASSES.contains(&text).then_some(None))
    })
}

/// Reads the asset class of a query, which is required.
fn queried_class(query: &Query) -> Result<Option<AssetClass>, Response> {
    asset_class(query.required("asset_class")?)
}

impl<'a, 'b> Operations<&'a Call<'b>> for &mut State {
    type Response = HandlerResult;

    answers! { state, call:
        get_active_margin_obligations => obligations::active(state, call),
        get_obligation_history => obligations::history(state, call),
        get_obligation_settlement_details => obligations::settlement_details(state, call),
        get_obligation_maintenance_margin_details => obligations::margin_details(state, call),
        get_obligation_funding_payments => obligations::funding_payments(state, call),
        get_obligation_corporate_action_payments => obligations::action_payments(state, call),

        get_settlement_estimate_by_asset_class => estimates::settlement(state, call),
        get_funding_estimate_by_asset_class => estimates::funding(state, call),
        estimate_portfolio_maintenance_margin => margin::estimate(state, call),
        get_maintenance_margin_metadata => margin::metadata(state, call),

        get_member_funding_payments => funding::payments(state, call),
        get_margin_funding_schedule => funding::schedule(call),
        get_settlement_prices => funding::settlement_prices(state, call),

        get_settlement_balance => cash::balance(state, call),
        get_settlement_balance_history => cash::history(state, call),
        get_guaranty_fund_balance => cash::guaranty_fund(state, call),
        withdraw_settlement_balance => cash::withdraw(state, call),
        get_settlement_balance_withdrawal => cash::withdrawal(state, call),

        get_margin_reports => reports::list(state, call),
        get_large_trader_positions => reports::large_traders(state, call),

        get_margin_subtrader_groups => fcm::groups(state, call),
        create_margin_subtrader_group => fcm::create_group(state, call),
        update_margin_subtrader_group => fcm::update_group(state, call),
        delete_margin_subtrader_group => fcm::delete_group(state, call),
        list_margin_fcm_api_keys => fcm::keys(state, call),
        create_margin_fcm_api_key => fcm::create_key(state, call),
        generate_margin_fcm_api_key => fcm::generate_key(state, call),
        delete_margin_fcm_api_key => fcm::delete_key(state, call),
    }
}
