use std::collections::BTreeMap;

use zeroize::Zeroizing;

use super::{
    AccountLogRecord, ContactRecord, ConversationRecord, Encoded, KIND_CONTACT, KIND_CONVERSATION,
    VERSION,
};
use crate::encoding::{self, EncodingError};
use crate::error::ensure;
use crate::id::{AccountId, ConversationId};

/// What the records of an account log add up to: for each subject its newest record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountMap(BTreeMap<Subject, AccountLogRecord>);

/// Kind and key of a record.
type Subject = (u32, Vec<u8>);

impl AccountMap {
    /// The map before the first record.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts `record` in the place of the earlier one on the same subject.
    pub fn apply(&mut self, record: AccountLogRecord) {
        let Encoded { kind, key, value: _ } = record.encode();
        self.0.insert((kind, key), record);
    }

    /// All records, by kind.
    pub fn records(&self) -> impl Iterator<Item = &AccountLogRecord> {
        self.0.values()
    }

    /// Where a conversation goes on.
    pub fn conversation(&self, id: ConversationId) -> Option<&ConversationRecord> {
        match self.0.get(&(KIND_CONVERSATION, id.as_bytes().to_vec())) {
            Some(AccountLogRecord::Conversation(record)) => Some(record),
            _ => None,
        }
    }

    /// What is known about another account.
    pub fn contact(&self, account: AccountId) -> Option<&ContactRecord> {
        match self.0.get(&(KIND_CONTACT, account.as_bytes().to_vec())) {
            Some(AccountLogRecord::Contact(record)) => Some(record),
            _ => None,
        }
    }

    /// The whole map as bytes, for a sealed state or the local store.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let records: Vec<_> = self.0.values().map(AccountLogRecord::encode).collect();
        Zeroizing::new(encoding::encode(VERSION, &records))
    }

    /// Reads a whole map.
    ///
    /// # Errors
    /// [`EncodingError`] for anything that [`encode`](Self::encode) would not have written.
    pub fn decode(bytes: &[u8]) -> Result<Self, EncodingError> {
        let records: Vec<Encoded> = encoding::decode(VERSION, bytes)?;
        let mut map = BTreeMap::new();
        for encoded in records {
            let subject = (encoded.kind, encoded.key.clone());
            let ascends = map.last_key_value().is_none_or(|(last, _)| *last < subject);
            ensure(ascends, EncodingError::Malformed)?;
            map.insert(subject, AccountLogRecord::decode(encoded)?);
        }
        Ok(Self(map))
    }
}
