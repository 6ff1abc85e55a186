//! Query 21, channel ids: bids with a number for their channel.
//!
//! Four channels have a number of their own, whatever the case of their letters: apple 0, google 1, facebook 2, baidu 3.
//! For the others it is what follows `channel_id=` in the URL, at its beginning or after a `&`, up to the next `&`; a
//! bid that has none is left out.

use tidemill::prelude::*;

use super::Query;
use super::answer::{Digest, Row, Rows};
use super::events::{Bid, Event, Feed, bid, bids};

pub(super) struct Q21;

/// A bid with its channel's number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WithChannel {
    auction: usize,
    bidder: usize,
    price: usize,
    channel: String,
    channel_id: String,
}

impl Row for WithChannel {
    fn digest(&self) -> u64 {
        Digest::new()
            .number(self.auction as u64)
            .number(self.bidder as u64)
            .number(self.price as u64)
            .number(self.channel.len() as u64)
            .text(&self.channel_id)
            .finish()
    }
}

/// The four channels, in the order of their numbers.
const KNOWN: [(&str, &str); 4] = [("apple", "0"), ("google", "1"), ("facebook", "2"), ("baidu", "3")];

/// What a URL says of its channel.
fn id_in_url(url: &str) -> Option<&str> {
    url.split('&').find_map(|part| part.strip_prefix("channel_id="))
}

fn with_channel(bid: Bid) -> Option<WithChannel> {
    let known = KNOWN.iter().find(|(name, _)| bid.channel.eq_ignore_ascii_case(name));
    let id = match known {
        Some((_, id)) => id,
        None => id_in_url(&bid.url)?,
    };
    let channel_id = id.to_owned();
    Some(WithChannel {
        auction: bid.auction,
        bidder: bid.bidder,
        price: bid.price,
        channel: bid.channel,
        channel_id,
    })
}

impl Query for Q21 {
    type Row = WithChannel;
    const NUMBER: u32 = 21;
    const TITLE: &'static str = "channel ids";
    const WHAT: &'static str = "bids with a number for their channel, from a list or from the URL";

    fn graph(graph: &Graph, events: &Feed, rows: &Rows<WithChannel>) {
        graph.source(events.source()).filter_map(bid).filter_map(with_channel).sink_per_worker(rows.sinks());
    }

    /// In another way than the query's own: the letters of the channel are made small, and the URL is searched for the
    /// two forms that the id may have in it.
    fn reference(events: &[Event]) -> Vec<WithChannel> {
        let id = |bid: &Bid| match bid.channel.to_lowercase().as_str() {
            "apple" => Some("0".to_owned()),
            "google" => Some("1".to_owned()),
            "facebook" => Some("2".to_owned()),
            "baidu" => Some("3".to_owned()),
            _ => {
                let url = format!("&{}&", bid.url);
                let start = url.find("&channel_id=")? + "&channel_id=".len();
                let length = url[start..].find('&')?;
                Some(url[start..start + length].to_owned())
            }
        };
        let row = |bid: &Bid| {
            let (auction, bidder, price, channel) = (bid.auction, bid.bidder, bid.price, bid.channel.clone());
            id(bid).map(|channel_id| WithChannel { auction, bidder, price, channel, channel_id })
        };
        bids(events).filter_map(row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::agrees_with_its_reference;
    use super::*;

    #[test]
    fn agrees() {
        agrees_with_its_reference::<Q21>();
    }

    #[test]
    fn an_id_stands_at_the_beginning_or_after_an_ampersand() {
        assert_eq!(id_in_url("https://a.b/item.htm?query=1&channel_id=77&x=1"), Some("77"));
        assert_eq!(id_in_url("channel_id=5"), Some("5"));
        assert_eq!(id_in_url("https://a.b/item.htm?channel_id=5"), None);
        assert_eq!(id_in_url("https://a.b/item.htm?query=1"), None);
    }
}
