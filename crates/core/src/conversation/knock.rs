//! Knocks and answers: how a member who missed a handover gets the seeds of the logs that followed.
//!
//! An answer needs no trust: each seed fits the `next` of the commit that was handed over, or is
//! dropped.

use std::collections::BTreeSet;

use rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::Me;
use super::context::DeviceKey;
use super::entry::{Entry, EntryKind};
use crate::crypto::hpke::{self, HpkeCiphertext, HpkePrivateKey, HpkePublicKey};
use crate::crypto::{CryptoError, Digest, Secret};
use crate::derive::Key32;
use crate::id::{AccountId, ConversationId, LogId};
use crate::identity::Certificate;
use crate::mls::codec::{Decode, Encode, Malformed, codec_struct};
use crate::seal::envelope::Seed;

const KNOCK_LABEL: &str = "corncrake knock";
const ANSWER_LABEL: &str = "corncrake answer";
const CLOSED_LOG_VERSION: u8 = 1;

/// Most seeds in one answer; who needs more knocks again where they lead.
pub const MAX_SEEDS: usize = 100;

/// Asks whoever holds the seed of the next log for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Knock {
    content: KnockContent,
    signature: Vec<u8>,
}

codec_struct!(Knock { content, signature });

#[derive(Clone, Debug, PartialEq, Eq)]
struct KnockContent {
    group: ConversationId,
    log: LogId,
    certificate: Vec<u8>,
    key: HpkePublicKey,
}

codec_struct!(KnockContent { group, log, certificate, key });

/// Seeds for one knock, sealed to its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The hash of the knock that this answers.
    knock: [u8; 32],
    sealed: HpkeCiphertext,
}

codec_struct!(Answer { knock, sealed });

/// Opens the answers to one knock; kept by the knocker until he is in.
#[derive(Clone, Debug)]
pub struct KnockKey {
    private: HpkePrivateKey,
    knock: [u8; 32],
}

codec_struct!(KnockKey { private, knock });

impl Knock {
    /// Makes a knock at a closed log: the entry's inner bytes and the key to its answers.
    pub fn make(
        group: ConversationId,
        log: LogId,
        me: &Me<'_>,
        rng: &mut impl CryptoRng,
    ) -> (Vec<u8>, KnockKey) {
        let private = HpkePrivateKey::generate(rng);
        let content = KnockContent {
            group,
            log,
            certificate: me.certificate.to_vec(),
            key: private.public(),
        };
        let signature = me.device_key.sign_with_label(KNOCK_LABEL, &content.to_bytes());
        let knock = Self { content, signature };
        let key = KnockKey { private, knock: knock.hash() };
        (Entry::Knock(knock).encode(), key)
    }

    /// What an answer names the knock by.
    pub fn hash(&self) -> [u8; 32] {
        Digest::of(&[&self.to_bytes()]).0
    }

    /// The knocker, if certificate, signature and key are good.
    fn sender(&self) -> Option<(AccountId, DeviceKey)> {
        let certificate = Certificate::parse_and_verify(&self.content.certificate).ok()?;
        let key = certificate.device_key();
        let content = self.content.to_bytes();
        self.content.key.check().ok()?;
        key.verify_with_label(KNOCK_LABEL, &content, &self.signature).ok()?;
        Some((certificate.account(), *key.as_bytes()))
    }
}

impl Answer {
    /// Seals `seeds`, the next log's first, to a knock: the entry's inner bytes.
    ///
    /// # Errors
    /// [`CryptoError::InvalidKey`] if the knock's key is none.
    pub fn seal(
        knock: &Knock,
        seeds: &[Seed],
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<u8>, CryptoError> {
        let mut plain = Zeroizing::new(Vec::with_capacity(32 * MAX_SEEDS));
        for seed in seeds.iter().take(MAX_SEEDS) {
            plain.extend_from_slice(seed.expose());
        }
        let hash = knock.hash();
        let key = &knock.content.key;
        let sealed = hpke::encrypt_with_label(key, ANSWER_LABEL, &hash, &plain, rng)?;
        let answer = Self { knock: hash, sealed };
        Ok(Entry::Answer(answer).encode())
    }

    /// The hash of the knock that this answers.
    pub fn knock(&self) -> [u8; 32] {
        self.knock
    }
}

impl KnockKey {
    /// The seeds in an answer, unless it is for another knock or does not open.
    pub fn open(&self, answer: &Answer) -> Vec<Seed> {
        if answer.knock != self.knock {
            return Vec::new();
        }
        let sealed = &answer.sealed;
        let opened = hpke::decrypt_with_label(&self.private, ANSWER_LABEL, &self.knock, sealed);
        let Ok(plain) = opened else {
            return Vec::new();
        };
        let (seeds, _) = plain.expose().as_chunks::<32>();
        let seeds = seeds.iter().take(MAX_SEEDS);
        seeds.map(|seed| Seed::from_key(Key32::from_bytes(*seed))).collect()
    }

    /// The key as bytes for the store; secret.
    pub fn expose(&self) -> Secret {
        let mut out = Vec::with_capacity(72);
        self.encode(&mut out);
        Secret::from(out)
    }

    /// Reads what [`Self::expose`] gave.
    ///
    /// # Errors
    /// [`Malformed`] bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        Self::decode_exact(bytes)
    }
}

/// What a member keeps of a log that was handed over, to let others in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClosedLog {
    /// The conversation.
    pub group: ConversationId,
    /// The log that was closed.
    pub log: LogId,
    /// The check that the next log's seed must fit.
    pub next: [u8; 32],
    /// Accounts in the tree that was handed over.
    pub accounts: BTreeSet<AccountId>,
    /// Keys that were revoked there.
    pub revoked: BTreeSet<DeviceKey>,
    /// How many leaves stood before the own one, or how many there were in all.
    pub rank: u32,
}

impl ClosedLog {
    /// Whether `seed` is the one that the handed-over commit announced.
    #[must_use]
    pub fn fits_next(&self, seed: &Seed) -> bool {
        seed.next_check(self.group.as_bytes()) == self.next
    }

    /// Whether the knock is for this log and its sender belonged to the group at its close.
    #[must_use]
    pub fn may_be_answered(&self, knock: &Knock) -> bool {
        let here = knock.content.group == self.group && knock.content.log == self.log;
        here && knock.sender().is_some_and(|sender| self.held(sender))
    }

    /// The inner bytes of an answer to a knock at this log: the seed of the next log, then those of
    /// the following closed ones as far as the knocker belonged. `chain` holds the closed logs from
    /// this one's successor on, each with the seed of the log after it.
    ///
    /// Nothing if the knock may not be answered.
    pub fn answer(
        &self,
        knock: &Knock,
        seed: &Seed,
        chain: &[(Self, Seed)],
        rng: &mut impl CryptoRng,
    ) -> Option<Vec<u8>> {
        let sender = knock.sender()?;
        if !self.may_be_answered(knock) {
            return None;
        }
        let held = chain.iter().take_while(|(closed, _)| closed.held(sender));
        let mut seeds = vec![seed.clone()];
        seeds.extend(held.map(|(_, seed)| seed.clone()));
        Answer::seal(knock, &seeds, rng).ok()
    }

    /// What an entry of a closed log may still be: a knock or an answer.
    pub fn read(kind: EntryKind, inner: &[u8]) -> Option<Entry> {
        let entry = Entry::decode(inner).ok()?;
        let counts = matches!(entry, Entry::Knock(_) | Entry::Answer(_));
        (counts && entry.kind() == kind).then_some(entry)
    }

    fn held(&self, (account, key): (AccountId, DeviceKey)) -> bool {
        self.accounts.contains(&account) && !self.revoked.contains(&key)
    }
}

codec_struct!(ClosedLog { = CLOSED_LOG_VERSION; group, log, next, accounts, revoked, rank });
