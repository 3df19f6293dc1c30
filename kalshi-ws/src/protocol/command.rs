//! Commands as they go over the wire.

use serde::Serialize;

use super::message::Sid;
use crate::{
    generated::{
        Channel,
        types::{
            SubscribeParams, SubscribeParamsChannelsItem, SubscribeParamsUserFilter,
            UnsubscribeParams, UpdateIndicesParams, UpdateIndicesParamsAction,
            UpdateSubscriptionParams, UpdateSubscriptionParamsAction, UpdateUnderlyingsParams,
            UpdateUnderlyingsParamsAction,
        },
    },
    product::{EventContracts, Product},
    subscription::{ItemKind, Options, item_kind},
};

/// A command of the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Command<P: Product = EventContracts> {
    pub(crate) id: i64,
    pub(crate) action: Action<P>,
}

/// The action of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action<P: Product = EventContracts> {
    Subscribe { channel: P::Channel, items: Vec<String>, options: Options },
    Unsubscribe { sid: Sid },
    Update { channel: P::Channel, sid: Sid, update: Update, items: Vec<String> },
    ListSubscriptions,
}

/// The action of an `update_subscription`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    Add {
        /// True if the ticker channel sends one message for each market at once.
        initial_snapshot: bool,
    },
    Delete,
    /// Sends new snapshots of order books.
    Snapshot,
    /// Lists the indices or underlyings that there are; not for markets.
    List,
}

/// The name of the command that changes a subscription.
pub(crate) const UPDATE: &str = "update_subscription";

#[derive(Serialize)]
struct Wire<'a, T> {
    id: i64,
    cmd: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    params: Option<T>,
}

impl<P: Product> Command<P> {
    /// Returns the text of the frame.
    pub(crate) fn to_text(&self) -> String {
        let id = self.id;
        match &self.action {
            Action::Subscribe { channel, items, options } => {
                P::subscribe(id, channel, items, options)
            }
            Action::Unsubscribe { sid } => {
                written(id, "unsubscribe", Some(UnsubscribeParams { sids: vec![*sid] }))
            }
            Action::Update { channel, sid, update, items } => {
                P::update(id, channel, *sid, *update, items.clone())
            }
            Action::ListSubscriptions => written(id, "list_subscriptions", None::<()>),
        }
    }
}

/// Returns the text of a `subscribe` on the streams of event contracts.
pub(crate) fn subscribe(id: i64, channel: &Channel, items: &[String], options: &Options) -> String {
    let kind = item_kind(channel);
    let with_markets = kind == ItemKind::Markets && !items.is_empty();
    let of_kind = |wanted| if kind == wanted { items.to_vec() } else { Vec::new() };
    let params = SubscribeParams {
        channels: vec![SubscribeParamsChannelsItem::from(channel.as_str())],
        index_ids: of_kind(ItemKind::Indices),
        market_id: None,
        market_ids: Vec::new(),
        market_ticker: None,
        market_tickers: of_kind(ItemKind::Markets),
        send_initial_snapshot: options.initial_snapshot.then_some(true),
        shard_factor: options.shard.map(|(_, factor)| factor.into()),
        shard_key: options.shard.map(|(key, _)| key.into()),
        // The list that would come back is the one that is sent.
        skip_ticker_ack: with_markets.then_some(true),
        underlying_tickers: of_kind(ItemKind::Underlyings),
        // The default will change one day, so it is always sent.
        use_yes_price: (*channel == Channel::OrderbookDelta).then_some(true),
        user_filter: options.own_only.then_some(SubscribeParamsUserFilter::Own),
    };
    written(id, "subscribe", Some(params))
}

/// Returns the text of an `update_subscription` on the streams of event contracts.
pub(crate) fn update(
    id: i64,
    channel: &Channel,
    sid: Sid,
    update: Update,
    items: Vec<String>,
) -> String {
    type Indices = UpdateIndicesParamsAction;
    type Underlyings = UpdateUnderlyingsParamsAction;
    type Markets = UpdateSubscriptionParamsAction;
    let sids = vec![sid];
    match item_kind(channel) {
        ItemKind::Indices => {
            let action = match update {
                Update::Add { .. } => Indices::SubscribeIndices,
                Update::Delete => Indices::UnsubscribeIndices,
                Update::List | Update::Snapshot => Indices::Indexlist,
            };
            let params = UpdateIndicesParams { action, index_ids: items, sid: None, sids };
            written(id, UPDATE, Some(params))
        }
        ItemKind::Underlyings => {
            let action = match update {
                Update::Add { .. } => Underlyings::SubscribeUnderlyings,
                Update::Delete => Underlyings::UnsubscribeUnderlyings,
                Update::List | Update::Snapshot => Underlyings::UnderlyingList,
            };
            let params =
                UpdateUnderlyingsParams { action, sid: None, sids, underlying_tickers: items };
            written(id, UPDATE, Some(params))
        }
        ItemKind::Markets => {
            let action = match update {
                Update::Add { .. } => Markets::AddMarkets,
                Update::Delete => Markets::DeleteMarkets,
                Update::List | Update::Snapshot => Markets::GetSnapshot,
            };
            let params = UpdateSubscriptionParams {
                action,
                market_id: None,
                market_ids: Vec::new(),
                market_ticker: None,
                market_tickers: items,
                send_initial_snapshot: matches!(update, Update::Add { initial_snapshot: true })
                    .then_some(true),
                sid: None,
                sids,
            };
            written(id, UPDATE, Some(params))
        }
    }
}

/// Returns the text of a command.
pub(crate) fn written<T: Serialize>(id: i64, cmd: &str, params: Option<T>) -> String {
    // Texts, numbers and lists of them: writing these into memory cannot fail.
    serde_json::to_string(&Wire { id, cmd, params }).unwrap_or_default()
}
