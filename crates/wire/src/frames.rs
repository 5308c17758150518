//! What travels over the two WebSockets, one encoded frame in each binary message.
//!
//! The server speaks first, with [`ServerFrame::Hello`]. On the account plane's socket the client
//! then shows its session and gets notices; on the open plane's it subscribes and appends.
//! Whoever has heard nothing for 25 seconds sends a ping; after 60 seconds of silence either side
//! hangs up.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    AccessToken, LogId, Refusal, SessionToken,
    account::Notice,
    codec, limits,
    log::{Append, AppendReply, LogEntry},
};

/// From client to server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClientFrame {
    /// Account plane, first frame: shows a session that belongs to a device. All notices of its
    /// inbox above `after` follow, then new ones as they come.
    Authenticate {
        /// The session.
        session: SessionToken,
        /// The newest notice that the client has.
        after: u64,
    },
    /// Open plane: follows logs, at most [`limits::SUBSCRIBE`] in one
    /// frame.
    Subscribe {
        /// The logs. Those that are refused are named one by one, the others are followed.
        #[serde(deserialize_with = "codec::at_most::<_, _, { limits::SUBSCRIBE }>")]
        logs: Vec<Subscription>,
    },
    /// Open plane: no more entries of these subscriptions, at most
    /// [`limits::SUBSCRIBE`].
    Unsubscribe {
        /// The subscriptions.
        #[serde(deserialize_with = "codec::at_most::<_, _, { limits::SUBSCRIBE }>")]
        ids: Vec<u32>,
    },
    /// Open plane: appends to a log.
    Append {
        /// The client's name for this request.
        request: u32,
        /// The append.
        append: Append,
    },
    /// Open plane: asks whether the client has everything. Answered with
    /// [`ServerFrame::Heads`], behind the entries that are under way.
    CheckHeads {
        /// [`heads_digest`] of what the client follows.
        digest: [u8; 32],
    },
    /// Either plane: asks for a [`ServerFrame::Pong`] with the same number.
    Ping(u64),
    /// Either plane: answers a [`ServerFrame::Ping`].
    Pong(u64),
}

/// A log to be followed: all entries above `after` are pushed, then new ones as they come. The
/// log need not exist yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    /// The client's name for this subscription; a second one of that name replaces it.
    pub id: u32,
    /// Opens the log.
    pub token: AccessToken,
    /// The newest position that the client has.
    pub after: u64,
    /// The [`running`](crate::log::running) hash up to there, if the client knows it. If the log
    /// has another there, or none, the answer is [`ServerFrame::Differs`].
    pub running: Option<[u8; 32]>,
}

/// The digest of the newest positions that a client has of the logs that it follows.
#[must_use]
pub fn heads_digest(heads: impl IntoIterator<Item = (LogId, u64)>) -> [u8; 32] {
    let mut heads: Vec<_> = heads.into_iter().collect();
    heads.sort_unstable();
    let hash = heads.iter().fold(Sha256::new_with_prefix(HEADS), |hash, (log, head)| {
        hash.chain_update(log.as_bytes()).chain_update(head.to_be_bytes())
    });
    hash.finalize().into()
}

/// Begins what [`heads_digest`] hashes.
const HEADS: &[u8] = b"corncrake v1 heads";

/// From server to client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServerFrame {
    /// The first frame.
    Hello(Hello),
    /// Entries of a subscription, in order, without gaps. The first frame after a subscription
    /// comes even when there is nothing to give.
    Entries {
        /// The subscription.
        id: u32,
        /// The entries.
        #[serde(deserialize_with = "codec::at_most::<_, _, { limits::PAGE_ENTRIES as usize }>")]
        entries: Vec<LogEntry>,
        /// The newest position of the log; 0: it doesn't exist.
        head: u64,
        /// The running hash up to the subscription's `after`, in the first frame, if the client
        /// did not name it.
        running: Option<[u8; 32]>,
    },
    /// The log of a subscription isn't the one that the client has read up to its `after`; the
    /// subscription has ended.
    Differs {
        /// The subscription.
        id: u32,
        /// The newest position of the log; 0: it doesn't exist.
        head: u64,
    },
    /// Answers a [`ClientFrame::CheckHeads`].
    Heads {
        /// Nothing if the digest is true; else the newest position of each subscription's log.
        #[serde(deserialize_with = "codec::at_most::<_, _, { limits::SUBSCRIPTIONS }>")]
        heads: Vec<(u32, u64)>,
    },
    /// Notices, in order. The first frame after authentication comes even when there are none.
    Notices {
        /// The notices.
        #[serde(deserialize_with = "codec::at_most::<_, _, { limits::PAGE_ENTRIES as usize }>")]
        notices: Vec<Notice>,
    },
    /// What became of an append.
    AppendReply {
        /// The client's name for the request.
        request: u32,
        /// The outcome.
        result: Result<AppendReply, Refusal>,
    },
    /// Answers a [`ClientFrame::Ping`].
    Pong(u64),
    /// Asks for a [`ClientFrame::Pong`] with the same number.
    Ping(u64),
    /// Something was refused.
    Refused {
        /// What.
        about: About,
        /// Why.
        refusal: Refusal,
    },
}

/// What a [`ServerFrame::Refused`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum About {
    /// The connection, which the server now closes.
    Connection,
    /// A subscription, which doesn't exist or has ended.
    Subscription(u32),
}

/// How a server introduces itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The versions of the protocol that the server speaks. This much of a `Hello` is the same in
    /// every version.
    pub versions: Versions,
    /// Names the database; a new one means that it may have lost its newest entries.
    pub instance: [u8; 16],
    /// What this server allows.
    pub limits: Limits,
    /// What later versions add; ignored by this one.
    #[serde(with = "codec::bytes")]
    pub extension: Vec<u8>,
}

impl Hello {
    /// What a server of this version says.
    #[must_use]
    pub const fn new(instance: [u8; 16]) -> Self {
        Self { versions: Versions::OURS, instance, limits: Limits::DEFAULT, extension: Vec::new() }
    }
}

/// The versions of the protocol that one side speaks, without a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// The oldest.
    pub lowest: u16,
    /// The newest.
    pub highest: u16,
}

impl Versions {
    /// Those of this crate.
    pub const OURS: Self = Self { lowest: crate::LOWEST_VERSION, highest: crate::VERSION };

    /// The newest version that both sides speak, which they then use.
    #[must_use]
    pub fn common(self, other: Self) -> Option<u16> {
        let highest = self.highest.min(other.highest);
        (highest >= self.lowest.max(other.lowest)).then_some(highest)
    }
}

/// What a server allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes in a frame from client to server.
    pub frame: u32,
    /// Logs that one connection follows.
    pub subscriptions: u32,
    /// Messages in one append.
    pub batch: u32,
    /// Notices in one inbox.
    pub inbox: u32,
}

impl Limits {
    /// What this version of the protocol allows.
    pub const DEFAULT: Self =
        Self { frame: 64 * 64 * 1024 + 256 * 1024, subscriptions: 4096, batch: 64, inbox: 1000 };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn audit_srv_b11_the_highest_version_that_both_know_is_spoken() {
        let versions = |lowest, highest| Versions { lowest, highest };
        assert_eq!(versions(1, 4).common(versions(2, 7)), Some(4));
        assert_eq!(versions(1, 4).common(versions(1, 1)), Some(1));
        assert_eq!(versions(1, 4).common(versions(4, 9)), Some(4));
        assert_eq!(versions(1, 4).common(versions(5, 9)), None);
        assert_eq!(versions(5, 9).common(versions(1, 4)), None);
        assert_eq!(Versions::OURS.common(Versions::OURS), Some(crate::VERSION));
    }

    #[test]
    fn hello_names_the_limits_that_hold() {
        assert_eq!(Limits::DEFAULT.frame as usize, limits::FRAME);
        assert_eq!(Limits::DEFAULT.subscriptions as usize, limits::SUBSCRIPTIONS);
        assert_eq!(Limits::DEFAULT.batch as usize, limits::BATCH);
        assert_eq!(Limits::DEFAULT.inbox as usize, limits::INBOX);
    }
}
