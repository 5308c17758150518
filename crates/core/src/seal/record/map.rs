use std::collections::BTreeMap;

use zeroize::Zeroizing;

use super::{
    AccountLogRecord, ContactRecord, ConversationRecord, Encoded, KIND_CONTACT, KIND_CONVERSATION,
    KIND_DEVICE_NAME, KIND_LOST_REMOVALS, LostRemovalsRecord, ReplacementRecord, SignUpRecord,
    VERSION,
};
use crate::encoding::{self, EncodingError};
use crate::error::ensure;
use crate::id::{AccountId, ConversationId};

/// What the records of an account log add up to: for each subject its newest record, and for each
/// conversation the one before that, should the server lose what the newest one names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountMap {
    newest: BTreeMap<Subject, AccountLogRecord>,
    before: BTreeMap<ConversationId, ConversationRecord>,
}

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
        let is_elsewhere = match &record {
            AccountLogRecord::Conversation(new) => {
                self.conversation(new.id).is_some_and(|old| old.anchor != new.anchor)
            }
            _ => false,
        };
        let earlier = self.newest.insert((kind, key), record);
        if let (true, Some(AccountLogRecord::Conversation(earlier))) = (is_elsewhere, earlier) {
            self.before.insert(earlier.id, earlier);
        }
    }

    /// The record of a conversation before its newest one that names another epoch.
    pub fn conversation_before(&self, id: ConversationId) -> Option<&ConversationRecord> {
        self.before.get(&id)
    }

    /// All records, by kind.
    pub fn records(&self) -> impl Iterator<Item = &AccountLogRecord> {
        self.newest.values()
    }

    /// Where a conversation goes on.
    pub fn conversation(&self, id: ConversationId) -> Option<&ConversationRecord> {
        match self.newest.get(&(KIND_CONVERSATION, id.as_bytes().to_vec())) {
            Some(AccountLogRecord::Conversation(record)) => Some(record),
            _ => None,
        }
    }

    /// What is known about another account.
    pub fn contact(&self, account: AccountId) -> Option<&ContactRecord> {
        match self.newest.get(&(KIND_CONTACT, account.as_bytes().to_vec())) {
            Some(AccountLogRecord::Contact(record)) => Some(record),
            _ => None,
        }
    }

    /// Who is in a conversation again because the server has lost their removal.
    pub fn lost_removals(&self, id: ConversationId) -> Option<&LostRemovalsRecord> {
        match self.newest.get(&(KIND_LOST_REMOVALS, id.as_bytes().to_vec())) {
            Some(AccountLogRecord::LostRemovals(record)) => Some(record),
            _ => None,
        }
    }

    /// What replaced the account record, in no order.
    pub fn replacements(&self) -> impl Iterator<Item = &ReplacementRecord> {
        // Conversations and contacts, which may be many, come before.
        let others = self.newest.range((KIND_DEVICE_NAME, Vec::new())..);
        others.filter_map(|(_, record)| record.replacement())
    }

    /// How the account was made, each time that a record says so.
    pub fn sign_ups(&self) -> impl Iterator<Item = &SignUpRecord> {
        let others = self.newest.range((KIND_DEVICE_NAME, Vec::new())..);
        others.filter_map(|(_, record)| record.sign_up())
    }

    /// The whole map as bytes, for a sealed state or the local store.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let newest: Vec<_> = self.newest.values().map(AccountLogRecord::encode).collect();
        let before: Vec<_> = self.before.values().collect();
        Zeroizing::new(encoding::encode(VERSION, &(newest, before)))
    }

    /// Reads a whole map.
    ///
    /// # Errors
    /// [`EncodingError`] for anything that [`encode`](Self::encode) would not have written.
    pub fn decode(bytes: &[u8]) -> Result<Self, EncodingError> {
        let (records, earlier): (Vec<Encoded>, Vec<ConversationRecord>) =
            encoding::decode(VERSION, bytes)?;
        let mut map = BTreeMap::new();
        for encoded in records {
            let subject = (encoded.kind, encoded.key.clone());
            let ascends = map.last_key_value().is_none_or(|(last, _)| *last < subject);
            ensure(ascends, EncodingError::Malformed)?;
            map.insert(subject, AccountLogRecord::decode(encoded)?);
        }
        let mut before = BTreeMap::new();
        for record in earlier {
            let ascends = before.last_key_value().is_none_or(|(last, _)| *last < record.id);
            ensure(ascends, EncodingError::Malformed)?;
            before.insert(record.id, record);
        }
        Ok(Self { newest: map, before })
    }
}
