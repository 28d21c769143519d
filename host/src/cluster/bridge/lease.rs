//! The lease of a channel in Redis: who handles its messages, and how far they are claimed. Every claim
//! is checked there against the tenure, so that a host which was frozen, or is cut off, handles nothing
//! that another one has taken over.

use super::waiting::Position;
use crate::{
    core::channel::ChannelName,
    link::{Link, Script},
};
use redis::{ErrorKind, FromRedisValue, RedisError, RedisResult};
use std::{sync::Arc, time::Duration};

/// How long a tenure lasts unless it is prolonged.
pub(super) const TENURE: Duration = Duration::from_secs(10);

/// What is asked of a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wish {
    /// A mark in the stream of messages.
    Mark,
    /// The tenure, if it is free.
    Take(String),
    /// The messages up to a position, in a tenure.
    Claim(String, Position),
    /// To go on with a tenure, and that others hear how far it is.
    Beat(String),
    /// The end of a tenure.
    Leave(String),
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Granted {
    /// This mark was set.
    Marked(u64),
    /// The tenure began; up to here messages are handled, or were by who had it before.
    Taken(Position),
    /// It is done.
    Done,
    /// Somebody else has the tenure, for so long at least.
    Not(Duration),
}

/// See the module's page.
pub(super) struct Lease {
    link: Link,
    script: Arc<Script>,
    key: String,
    hosts: String,
    channel: ChannelName,
}

impl Lease {
    pub(super) fn new(
        link: Link,
        script: Arc<Script>,
        prefix: &str,
        hosts: &str,
        channel: &ChannelName,
    ) -> Self {
        Self {
            link,
            script,
            key: format!("{prefix}:channel:{channel}"),
            hosts: hosts.to_owned(),
            channel: channel.clone(),
        }
    }

    /// Asks; the same can be asked again when the answer was lost.
    pub(super) async fn ask(&self, wish: &Wish) -> RedisResult<Granted> {
        let (wanted, tenure, position) = match wish {
            Wish::Mark => ("mark", "", None),
            Wish::Take(tenure) => ("take", tenure.as_str(), None),
            Wish::Claim(tenure, position) => ("claim", tenure.as_str(), Some(position)),
            Wish::Beat(tenure) => ("beat", tenure.as_str(), None),
            Wish::Leave(tenure) => ("leave", tenure.as_str(), None),
        };
        let long = TENURE.as_micros().to_string();
        let position = position.map_or(String::new(), ToString::to_string);
        let arguments = [
            wanted,
            self.hosts.as_str(),
            self.channel.as_str(),
            tenure,
            long.as_str(),
            position.as_str(),
        ];
        let keys = [self.key.clone()];
        let answer = self.link.script(&self.script, &keys, arguments.into_iter());
        let answer = Vec::<String>::from_redis_value(answer.await?)?;
        let mut answer = answer.iter().map(String::as_str);
        let (done, told) = (
            answer.next() == Some("1"),
            answer.next().unwrap_or_default(),
        );
        let odd = || RedisError::from((ErrorKind::UnexpectedReturnType, "not a lease's answer"));
        Ok(match wish {
            _ if !done => {
                let left = told.parse().unwrap_or(0);
                Granted::Not(Duration::from_micros(left))
            }
            Wish::Mark => Granted::Marked(told.parse().map_err(|_| odd())?),
            Wish::Take(_) => Granted::Taken(told.parse().map_err(|()| odd())?),
            Wish::Claim(..) | Wish::Beat(_) | Wish::Leave(_) => Granted::Done,
        })
    }
}

/// What hosts hear of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// A mark, at this place of the stream.
    Mark(u64),
    /// How far messages are claimed.
    Claimed(Position),
    /// The tenure is over.
    Free,
}

/// Reads what the script has published.
pub(super) fn read_news(text: &str) -> Option<(News, &str)> {
    let (word, rest) = text.split_once(' ')?;
    let (mark, rest) = rest.split_once(' ')?;
    let (index, channel) = rest.split_once(' ')?;
    let position = Position {
        mark: mark.parse().ok()?,
        index: index.parse().ok()?,
    };
    let news = match word {
        "mark" => News::Mark(position.mark),
        "claimed" => News::Claimed(position),
        "free" => News::Free,
        _ => return None,
    };
    Some((news, channel))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_are_read() {
        let position = Position { mark: 7, index: 3 };
        for (text, news) in [
            ("mark 7 0 a b", News::Mark(7)),
            ("claimed 7 3 a b", News::Claimed(position)),
            ("free 0 0 a b", News::Free),
        ] {
            assert_eq!(read_news(text), Some((news, "a b")), "{text}");
        }
        for odd in [
            "",
            "mark",
            "mark 7 0",
            "mark x 0 a",
            "other 1 2 a",
            "mark -1 0 a",
        ] {
            assert_eq!(read_news(odd), None, "{odd}");
        }
    }
}
