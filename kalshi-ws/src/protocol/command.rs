//! Commands as they go over the wire.

use kalshi_types::wire::null_as_default;
use serde::{Deserialize, Serialize};

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

/// A command that another client sent, as far as a session that only reads needs it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SentCommand {
    pub(crate) id: i64,
    pub(crate) action: SentAction,
}

/// The action of a command that another client sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SentAction {
    Subscribe { channel: String, items: Vec<String> },
    Unsubscribe { sids: Vec<Sid> },
    Update { sid: Sid, update: Update, items: Vec<String> },
    ListSubscriptions,
}

impl SentCommand {
    /// Reads a frame; `None` for one that is no command, for one of a kind that this version does
    /// not know, and for one that names several channels or several subscriptions to change: the
    /// replies do not tell which of them they are about.
    pub(crate) fn read(text: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Wire {
            id: i64,
            cmd: String,
            #[serde(default, deserialize_with = "null_as_default")]
            params: Params,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Params {
            #[serde(deserialize_with = "null_as_default")]
            channels: Vec<String>,
            sid: Option<Sid>,
            #[serde(deserialize_with = "null_as_default")]
            sids: Vec<Sid>,
            action: Option<String>,
            market_ticker: Option<String>,
            #[serde(deserialize_with = "null_as_default")]
            market_tickers: Vec<String>,
            #[serde(deserialize_with = "null_as_default")]
            index_ids: Vec<String>,
            #[serde(deserialize_with = "null_as_default")]
            underlying_tickers: Vec<String>,
        }
        let Wire { id, cmd, params } = serde_json::from_str(text).ok()?;
        let Params { channels, sid, sids, action, market_ticker, .. } = params;
        let mut items = params.market_tickers;
        items.extend(market_ticker);
        items.extend(params.index_ids);
        items.extend(params.underlying_tickers);
        let sids: Vec<Sid> = sids.into_iter().chain(sid).collect();
        let action = match cmd.as_str() {
            "subscribe" => {
                let [channel] = <[String; 1]>::try_from(channels).ok()?;
                SentAction::Subscribe { channel, items }
            }
            "unsubscribe" => SentAction::Unsubscribe { sids },
            UPDATE => {
                let [sid] = <[Sid; 1]>::try_from(sids).ok()?;
                let update = match action?.as_str() {
                    "add_markets" | "subscribe_indices" | "subscribe_underlyings" => {
                        Update::Add { initial_snapshot: false }
                    }
                    "delete_markets" | "unsubscribe_indices" | "unsubscribe_underlyings" => {
                        Update::Delete
                    }
                    "get_snapshot" => Update::Snapshot,
                    "indexlist" | "underlying_list" => Update::List,
                    _ => return None,
                };
                SentAction::Update { sid, update, items }
            }
            "list_subscriptions" => SentAction::ListSubscriptions,
            _ => return None,
        };
        Some(Self { id, action })
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_was_sent_is_read_back_as_what_it_was() {
        let items = || vec!["A".to_owned(), "B".to_owned()];
        let channels = [
            Channel::OrderbookDelta,
            Channel::Ticker,
            Channel::CfbenchmarksValue,
            Channel::CfbenchmarksValue5hz,
            Channel::PythValue,
        ];
        let read = |action: Action| {
            let sent = SentCommand::read(&Command { id: 7, action }.to_text()).unwrap();
            assert_eq!(sent.id, 7);
            sent.action
        };
        for channel in channels {
            let options = Options::default();
            let action = Action::Subscribe { channel: channel.clone(), items: items(), options };
            let expected =
                SentAction::Subscribe { channel: channel.as_str().to_owned(), items: items() };
            assert_eq!(read(action), expected);
            let last = match item_kind(&channel) {
                ItemKind::Markets => Update::Snapshot,
                _ => Update::List,
            };
            for update in [Update::Add { initial_snapshot: false }, Update::Delete, last] {
                let channel = channel.clone();
                let action = Action::Update { channel, sid: 3, update, items: items() };
                assert_eq!(read(action), SentAction::Update { sid: 3, update, items: items() });
            }
        }
        let action = Action::Unsubscribe { sid: 4 };
        assert_eq!(read(action), SentAction::Unsubscribe { sids: vec![4] });
        assert_eq!(read(Action::ListSubscriptions), SentAction::ListSubscriptions);
    }

    #[test]
    fn a_frame_that_is_no_command_of_one_subscription_is_none() {
        for text in [
            "",
            "[]",
            r#"{"cmd":"unsubscribe","params":{"sids":[1]}}"#,
            r#"{"id":1,"cmd":"ping"}"#,
            r#"{"id":1,"cmd":"subscribe"}"#,
            r#"{"id":1,"cmd":"subscribe","params":{"channels":["trade","fill"]}}"#,
            r#"{"id":1,"cmd":"update_subscription","params":{"sids":[1,2],"action":"add_markets"}}"#,
            r#"{"id":1,"cmd":"update_subscription","params":{"sid":1,"action":"swap_markets"}}"#,
            r#"{"id":1,"cmd":"update_subscription","params":{"sid":1}}"#,
        ] {
            assert_eq!(SentCommand::read(text), None, "{text}");
        }
        let one = r#"{"id":1,"cmd":"update_subscription","params":{"sid":2,"sids":null,"action":"delete_markets","market_ticker":"A"}}"#;
        let action =
            SentAction::Update { sid: 2, update: Update::Delete, items: vec!["A".to_owned()] };
        assert_eq!(SentCommand::read(one), Some(SentCommand { id: 1, action }));
    }
}
