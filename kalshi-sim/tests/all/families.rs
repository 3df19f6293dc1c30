//! The families through the typed client: everything decodes, lists stream to their end.

use std::collections::BTreeSet;

use http::Method;
use kalshi_sdk::types::{CreateMarketInMultivariateEventCollectionRequest, LegSide, TickerPair};
use kalshi_sim::{Exchange, Role};
use serde_json::{Value, json};

use crate::status;

#[tokio::test]
async fn lists_stream_to_their_end_and_hold_each_row_once() {
    let exchange = Exchange::start().await.unwrap();
    let client = exchange.client(Role::Trader).unwrap();
    macro_rules! all {
        ($($call:ident)+, $id:ident) => {{
            let rows = client$(.$call())+.stream().try_collect().await.unwrap();
            let ids: BTreeSet<String> = rows.iter().map(|row| row.$id.clone()).collect();
            assert_eq!(ids.len(), rows.len());
            rows.len()
        }};
    }
    let milestones = client.get_milestones().limit(50).stream().try_collect().await.unwrap();
    let ids: BTreeSet<&str> = milestones.iter().map(|row| row.id.as_str()).collect();
    assert!(ids.len() > 300 && ids.len() == milestones.len());
    let targets = client.get_structured_targets().stream().try_collect().await.unwrap();
    let ids: BTreeSet<_> = targets.iter().filter_map(|row| row.id.as_deref()).collect();
    assert!(ids.len() > 400 && ids.len() == targets.len());
    assert!(all!(get_incentive_programs, id) > 300);
    assert!(all!(get_event_fee_changes, id) > 100);
    assert!(all!(get_historical_markets, ticker) > 500);
    assert!(all!(get_trades_historical, trade_id) > 2_000);
    assert!(all!(get_historical_orders, order_id) > 300);
    assert!(all!(get_fills_historical, fill_id) > 300);
    assert!(all!(get_multivariate_event_collections, collection_ticker) > 20);
}

#[tokio::test]
async fn single_reads_decode_and_agree_with_each_other() {
    let exchange = Exchange::start().await.unwrap();
    let client = exchange.client(Role::Trader).unwrap();
    let games = client.get_milestones().limit(5).type_("football_game").send().await.unwrap();
    let game = &games.milestones[0];
    let live = client.get_live_data_by_milestone().milestone_id(&*game.id).send().await.unwrap();
    assert_eq!(live.live_data.type_, game.type_);
    client.get_game_stats().milestone_id(&*game.id).send().await.unwrap();
    let one = client.get_milestone().milestone_id(&*game.id).send().await.unwrap();
    assert_eq!(one.milestone, *game);
    let home = game.details["home_team_id"].as_str().unwrap();
    let home = client.get_structured_target().structured_target_id(home).send().await.unwrap();
    assert_eq!(home.structured_target.as_ref().unwrap().type_.as_deref(), Some("football_team"));
    let weather = client.get_weather_index().city("denver").last_sec(3_600).send().await.unwrap();
    let sets = client.get_weather_index_calibrations().city("denver").send().await.unwrap();
    let version = weather.config_version.as_ref().unwrap();
    assert!(sets.calibrations.iter().any(|set| set.config_version == *version));
    client.get_filters_for_sports().send().await.unwrap();
    client.get_tags_for_series_categories().send().await.unwrap();
    client.get_historical_cutoff().send().await.unwrap();
    client.get_historical_positions().send().await.unwrap();
    client.get_account_api_usage_level_volume_progress().send().await.unwrap();
    // The typed method sends no body, which the simulator refuses as the exchange has been seen to.
    let upgrade = client.raw(Method::POST, "/account/api_usage_level/upgrade").json(&json!({}));
    let error = upgrade.send::<Value>().await.unwrap_err();
    assert_eq!(status(&error), 403);
}

#[tokio::test]
async fn a_combo_that_was_made_is_a_market_like_any_other() {
    let exchange = Exchange::start().await.unwrap();
    let client = exchange.client(Role::Trader).unwrap();
    let open = client.get_multivariate_event_collections().status("open").send().await.unwrap();
    let collection = open
        .multivariate_contracts
        .iter()
        .find(|row| row.series_ticker == "KXMVESIMCROSS")
        .unwrap();
    let mut legs = Vec::new();
    for event in collection.associated_events.iter().take(2) {
        let markets = client.get_markets().event_ticker(&*event.ticker).send().await.unwrap();
        legs.push(
            TickerPair::builder()
                .market_ticker(markets.markets[0].ticker.clone())
                .event_ticker(event.ticker.clone())
                .side(LegSide::Yes),
        );
    }
    let legs: Vec<TickerPair> = legs.into_iter().map(|leg| leg.try_into().unwrap()).collect();
    let body = CreateMarketInMultivariateEventCollectionRequest::builder().selected_markets(legs);
    let made = client
        .create_market_in_multivariate_event_collection()
        .collection_ticker(&*collection.collection_ticker)
        .body(body)
        .send()
        .await
        .unwrap();
    let market = client.get_market().ticker(&*made.market_ticker).send().await.unwrap();
    assert_eq!(market.market.event_ticker, made.event_ticker);
    let event = client.get_event().event_ticker(&*made.event_ticker).send().await.unwrap();
    assert_eq!(event.markets, std::slice::from_ref(&market.market));
    let combos = client.get_multivariate_events().stream().try_collect().await.unwrap();
    assert_eq!(combos[0].event_ticker, made.event_ticker);
}
