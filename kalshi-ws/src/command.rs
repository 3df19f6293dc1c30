//! Commands as they go over the wire.

use serde::Serialize;

use crate::{
    generated::{
        Channel,
        types::{
            CfbenchmarksUpdateSubscriptionCommandParams,
            CfbenchmarksUpdateSubscriptionCommandParamsAction, PythUpdateSubscriptionCommandParams,
            PythUpdateSubscriptionCommandParamsAction, SubscribeCommandParams,
            SubscribeCommandParamsChannelsItem, UnsubscribeCommandParams,
            UpdateSubscriptionCommandParams, UpdateSubscriptionCommandParamsAction,
        },
    },
    message::Sid,
    subscription::{ItemKind, Options, item_kind},
};

/// What an `update_subscription` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Update {
    Add,
    Delete,
    /// New snapshots of the order books.
    Snapshot,
    /// What can be subscribed to; not for markets.
    List,
}

#[derive(Serialize)]
struct Command<'a, P> {
    id: i64,
    cmd: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    params: Option<P>,
}

/// Asks for a channel.
pub(crate) fn subscribe(id: i64, channel: &Channel, items: &[String], options: &Options) -> String {
    let kind = item_kind(channel);
    let with_markets = kind == ItemKind::Markets && !items.is_empty();
    let of_kind = |wanted| if kind == wanted { items.to_vec() } else { Vec::new() };
    let params = SubscribeCommandParams {
        channels: vec![SubscribeCommandParamsChannelsItem::from(channel.as_str())],
        index_ids: of_kind(ItemKind::Indices),
        market_id: None,
        market_ids: Vec::new(),
        market_ticker: None,
        market_tickers: of_kind(ItemKind::Markets),
        send_initial_snapshot: options.initial_snapshot.then_some(true),
        shard_factor: options.shard.map(|(_, factor)| factor.into()),
        shard_key: options.shard.map(|(key, _)| key.into()),
        // The list that would come back is the one that is sent here.
        skip_ticker_ack: with_markets.then_some(true),
        underlying_tickers: of_kind(ItemKind::Underlyings),
        // Its default will change one day, so it is always said.
        use_yes_price: (*channel == Channel::OrderbookDelta).then_some(true),
        user_filter: options.own_only.then(|| "self".to_owned()),
    };
    written(id, "subscribe", Some(params))
}

/// Ends a subscription.
pub(crate) fn unsubscribe(id: i64, sid: Sid) -> String {
    written(id, "unsubscribe", Some(UnsubscribeCommandParams { sids: vec![sid] }))
}

/// Asks for the subscriptions of the connection.
pub(crate) fn list_subscriptions(id: i64) -> String {
    written(id, "list_subscriptions", None::<()>)
}

/// Changes a subscription, or asks about it.
pub(crate) fn update(
    id: i64,
    channel: &Channel,
    sid: Sid,
    update: Update,
    items: Vec<String>,
) -> String {
    type Indices = CfbenchmarksUpdateSubscriptionCommandParamsAction;
    type Underlyings = PythUpdateSubscriptionCommandParamsAction;
    type Markets = UpdateSubscriptionCommandParamsAction;
    const UPDATE: &str = "update_subscription";
    let sids = vec![sid];
    match item_kind(channel) {
        ItemKind::Indices => {
            let action = match update {
                Update::Add => Indices::SubscribeIndices,
                Update::Delete => Indices::UnsubscribeIndices,
                Update::List | Update::Snapshot => Indices::Indexlist,
            };
            let params = CfbenchmarksUpdateSubscriptionCommandParams {
                action,
                index_ids: items,
                sid: None,
                sids,
            };
            written(id, UPDATE, Some(params))
        }
        ItemKind::Underlyings => {
            let action = match update {
                Update::Add => Underlyings::SubscribeUnderlyings,
                Update::Delete => Underlyings::UnsubscribeUnderlyings,
                Update::List | Update::Snapshot => Underlyings::UnderlyingList,
            };
            let params = PythUpdateSubscriptionCommandParams {
                action,
                sid: None,
                sids,
                underlying_tickers: items,
            };
            written(id, UPDATE, Some(params))
        }
        ItemKind::Markets => {
            let action = match update {
                Update::Add => Markets::AddMarkets,
                Update::Delete => Markets::DeleteMarkets,
                Update::List | Update::Snapshot => Markets::GetSnapshot,
            };
            let params = UpdateSubscriptionCommandParams {
                action,
                market_id: None,
                market_ids: Vec::new(),
                market_ticker: None,
                market_tickers: items,
                send_initial_snapshot: None,
                sid: None,
                sids,
            };
            written(id, UPDATE, Some(params))
        }
    }
}

fn written<P: Serialize>(id: i64, cmd: &str, params: Option<P>) -> String {
    // Texts, numbers and lists of them: writing these into memory cannot fail.
    serde_json::to_string(&Command { id, cmd, params }).unwrap_or_default()
}
