//! Envelopes: what a log's server stores, and the seed from which a log's names and keys derive.

use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::{SealError, open, padding, seal};
use crate::derive::{Key32, Label, derive};
use crate::id::{ConversationId, EntryId, LogId};

const VERSION: u8 = 1;

/// The 32 bytes from which a log's access token and envelope key derive; whoever holds them reads
/// and appends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seed(Key32);

/// What derives from a [`Seed`] for use with the server.
#[derive(Clone, Debug)]
pub struct LogKeys {
    /// Shown to the server with each read and append.
    pub access_token: Key32,
    /// The SHA-256 of the access token, all that the server keeps.
    pub log: LogId,
    /// Seals and opens what the log holds.
    pub envelope: EnvelopeKey,
}

/// The key of a log's envelopes.
#[derive(Clone, Debug)]
pub struct EnvelopeKey(Key32);

/// The two kinds of entry that a server tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// Changes the group, or closes a log; kept as long as the log.
    Commit,
    /// Everything that may expire.
    Message,
}

/// What lies beside an entry, and which entry that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beside {
    /// The Welcome of the commit with this id.
    Welcome(EntryId),
    /// Tree and GroupInfo after the commit with this id.
    State(EntryId),
    /// The state with which a log begins, before any entry.
    Opening,
}

impl Seed {
    /// The seed of a new group's first log.
    pub fn random(rng: &mut impl CryptoRng) -> Self {
        Self(Key32::random(rng))
    }

    /// The seed with these bytes.
    pub fn from_key(key: Key32) -> Self {
        Self(key)
    }

    /// The secret bytes.
    pub fn expose(&self) -> &[u8; 32] {
        self.0.expose()
    }

    /// Names and keys of this seed's log.
    pub fn log_keys(&self) -> LogKeys {
        let access_token = derive(self.expose(), Label::LogAccess, &[]);
        let log = LogId::from_bytes(Sha256::digest(access_token.expose()).into());
        let envelope = EnvelopeKey(derive(self.expose(), Label::Envelope, &[]));
        LogKeys { access_token, log, envelope }
    }

    /// The id of the conversation whose first log has this seed.
    pub fn conversation_id(&self) -> ConversationId {
        let id = derive(self.expose(), Label::Conversation, &[]);
        ConversationId::from_bytes(*id.expose())
    }

    /// The public value by which members recognise this seed as that of the group's next log.
    pub fn next_check(&self, group_id: &[u8]) -> [u8; 32] {
        *derive(self.expose(), Label::NextLogCheck, &[group_id]).expose()
    }
}

impl EnvelopeKey {
    /// Pads and seals an entry for this log and kind.
    ///
    /// # Errors
    /// [`SealError::TooLarge`] from 4 GiB on.
    pub fn seal(
        &self,
        log: LogId,
        kind: EntryKind,
        inner: &[u8],
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<u8>, SealError> {
        let place: [&[u8]; 2] = [log.as_bytes(), &[kind.byte()]];
        Ok(seal(VERSION, &self.0, &place, &padding::pad(inner)?, rng))
    }

    /// Opens an entry of this log and kind.
    ///
    /// # Errors
    /// [`SealError`] if it was sealed for another log or kind, changed, or badly padded.
    pub fn open(
        &self,
        log: LogId,
        kind: EntryKind,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let place: [&[u8]; 2] = [log.as_bytes(), &[kind.byte()]];
        padding::unpad(&open(VERSION, &self.0, &place, sealed)?)
    }

    /// Pads and seals what lies beside an entry of this log.
    ///
    /// # Errors
    /// [`SealError::TooLarge`] from 4 GiB on.
    pub fn seal_beside(
        &self,
        log: LogId,
        beside: Beside,
        inner: &[u8],
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<u8>, SealError> {
        let (what, entry) = beside.place();
        let place: [&[u8]; 3] = [log.as_bytes(), &[what], entry];
        Ok(seal(VERSION, &self.0, &place, &padding::pad(inner)?, rng))
    }

    /// Opens what lies beside an entry of this log.
    ///
    /// # Errors
    /// [`SealError`] if it was sealed for another log, entry or purpose, changed, or badly padded.
    pub fn open_beside(
        &self,
        log: LogId,
        beside: Beside,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let (what, entry) = beside.place();
        let place: [&[u8]; 3] = [log.as_bytes(), &[what], entry];
        padding::unpad(&open(VERSION, &self.0, &place, sealed)?)
    }
}

/// The id of an entry: the SHA-256 of its sealed bytes.
pub fn entry_id(sealed: &[u8]) -> EntryId {
    EntryId::from_bytes(Sha256::digest(sealed).into())
}

impl EntryKind {
    const fn byte(self) -> u8 {
        match self {
            Self::Commit => 1,
            Self::Message => 2,
        }
    }
}

impl Beside {
    fn place(&self) -> (u8, &[u8]) {
        match self {
            Self::Welcome(entry) => (3, entry.as_bytes()),
            Self::State(entry) => (4, entry.as_bytes()),
            Self::Opening => (5, &[]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::{assert_golden_hex, feed_garbage, rng, spoiled};

    fn seed() -> Seed {
        Seed::from_key(Key32::from_bytes([5; 32]))
    }

    #[test]
    fn names_and_keys_of_a_seed_are_golden() {
        let keys = seed().log_keys();
        let conversation = seed().conversation_id();
        let all = [
            keys.access_token.expose().as_slice(),
            keys.log.as_bytes(),
            keys.envelope.0.expose(),
            conversation.as_bytes(),
            &seed().next_check(b"group"),
        ];
        assert_golden_hex("seed.hex", &all.concat());
        assert_eq!(keys.log.as_bytes(), &*Sha256::digest(keys.access_token.expose()));
    }

    #[test]
    fn envelopes_are_golden() {
        let LogKeys { log, envelope, .. } = seed().log_keys();
        let entry = EntryId::from_bytes([9; 32]);
        let sealed = envelope.seal(log, EntryKind::Commit, b"commit", &mut rng(1)).unwrap();
        assert_golden_hex("envelope_commit.hex", &sealed);
        for (name, beside) in [
            ("envelope_welcome.hex", Beside::Welcome(entry)),
            ("envelope_state.hex", Beside::State(entry)),
            ("envelope_opening.hex", Beside::Opening),
        ] {
            let sealed = envelope.seal_beside(log, beside, b"beside", &mut rng(1)).unwrap();
            assert_golden_hex(name, &sealed);
            assert_eq!(*envelope.open_beside(log, beside, &sealed).unwrap(), b"beside");
        }
    }

    #[test]
    fn an_entry_opens_only_where_it_belongs() {
        let LogKeys { log, envelope, .. } = seed().log_keys();
        let other = Seed::random(&mut rng(2)).log_keys();
        let sealed = envelope.seal(log, EntryKind::Message, b"krek", &mut rng(1)).unwrap();
        assert_eq!(*envelope.open(log, EntryKind::Message, &sealed).unwrap(), b"krek");
        let refused = Err(SealError::Refused);
        assert_eq!(envelope.open(log, EntryKind::Commit, &sealed), refused);
        assert_eq!(envelope.open(other.log, EntryKind::Message, &sealed), refused);
        assert_eq!(other.envelope.open(log, EntryKind::Message, &sealed), refused);
        assert_eq!(envelope.open_beside(log, Beside::Opening, &sealed), refused);
    }

    #[test]
    fn what_lies_beside_cannot_be_swapped() {
        let LogKeys { log, envelope, .. } = seed().log_keys();
        let (one, two) = (EntryId::from_bytes([1; 32]), EntryId::from_bytes([2; 32]));
        let sealed = envelope.seal_beside(log, Beside::State(one), b"tree", &mut rng(1)).unwrap();
        for beside in [Beside::State(two), Beside::Welcome(one), Beside::Opening] {
            assert_eq!(envelope.open_beside(log, beside, &sealed), Err(SealError::Refused));
        }
        assert!(envelope.open(log, EntryKind::Commit, &sealed).is_err());
    }

    #[test]
    fn every_change_is_refused() {
        let LogKeys { log, envelope, .. } = seed().log_keys();
        let sealed = envelope.seal(log, EntryKind::Message, b"krek", &mut rng(1)).unwrap();
        for bad in spoiled(&sealed) {
            assert!(envelope.open(log, EntryKind::Message, &bad).is_err());
        }
        let unpadded = seal(
            VERSION,
            &envelope.0,
            &[log.as_bytes(), &[EntryKind::Message.byte()]],
            b"not padded",
            &mut rng(1),
        );
        let opened = envelope.open(log, EntryKind::Message, &unpadded);
        assert_eq!(opened, Err(SealError::Malformed));
    }

    #[test]
    fn sealing_twice_gives_two_entries() {
        let LogKeys { log, envelope, .. } = seed().log_keys();
        let mut rng = rng(1);
        let first = envelope.seal(log, EntryKind::Message, b"krek", &mut rng).unwrap();
        let second = envelope.seal(log, EntryKind::Message, b"krek", &mut rng).unwrap();
        assert_ne!(entry_id(&first), entry_id(&second));
    }

    #[test]
    fn garbage_never_opens() {
        let LogKeys { log, envelope, .. } = seed().log_keys();
        let sealed = envelope.seal(log, EntryKind::Message, b"krek", &mut rng(1)).unwrap();
        feed_garbage(1_000_000, &sealed, |bytes| {
            let opened = envelope.open(log, EntryKind::Message, bytes);
            assert!(opened.is_err() || bytes == sealed);
        });
    }

    #[test]
    fn secrets_print_nothing() {
        assert_eq!(format!("{:?}", seed()), "Seed(Key32(..))");
        let keys = format!("{:?}", seed().log_keys());
        let log = seed().log_keys().log;
        let expected = format!(
            "LogKeys {{ access_token: Key32(..), log: {log:?}, envelope: EnvelopeKey(Key32(..)) }}"
        );
        assert_eq!(keys, expected);
    }
}
