//! What a sender had read: a running hash that shows when two members see different logs.
//!
//! Each message and each commit carries {log, position, hash} as its `authenticated_data`: the
//! newest position that its sender had read, and the hash over (log id, entry id) of all entries
//! from the last but one commit that counted up to there, across a handover. A mismatch is an
//! alarm; what can't be checked is none.

use std::collections::{BTreeSet, VecDeque};

use crate::derive::{Label, labelled_hash};
use crate::id::{AccountId, EntryId, LogId};
use crate::mls::codec::{Decode, Encode, codec_struct};

const VERSION: u8 = 1;

/// How many marks a reader keeps; a sender who lags further behind can't be checked.
pub(super) const MARKS: usize = 1024;

/// A running hash at one position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) log: LogId,
    pub(super) position: u64,
    pub(super) hash: [u8; 32],
}

codec_struct!(Mark { log, position, hash });

/// What a sender says he had read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    log: LogId,
    position: u64,
    hash: Option<[u8; 32]>,
}

codec_struct!(Seen { = VERSION; log, position, hash });

/// The running hashes of one reader and their values since the newest commit that counted.
#[derive(Clone, Debug, Default)]
pub(super) struct View {
    /// From the last but one commit that counted, if that is known.
    previous: Option<[u8; 32]>,
    /// From the newest commit that counted, if that is known.
    newest: Option<[u8; 32]>,
    /// Number of the first mark that is kept.
    first: u64,
    marks: VecDeque<Mark>,
    /// Whose words contradicted what was read here, in this epoch.
    alarmed: BTreeSet<AccountId>,
    /// Numbers of the marks that the store still has, but that are gone here.
    pruned: Vec<u64>,
    /// Number of the first mark that the store does not have.
    unsaved: u64,
}

impl View {
    /// The view of who reads a conversation from its very beginning.
    pub(super) fn from_start(log: LogId) -> Self {
        let mut view = Self { previous: Some(start()), newest: Some(start()), ..Self::default() };
        view.mark(log, 0);
        view
    }

    /// What to say in the next message or commit.
    pub(super) fn say(&self, log: LogId, position: u64) -> Vec<u8> {
        let hash = self.previous;
        Seen { log, position, hash }.to_bytes()
    }

    /// Whether to raise an alarm over the words of the author of the entry at `position`: once for
    /// each author and epoch. One lost entry contradicts all that is said after it.
    pub(super) fn alarms(
        &mut self,
        said: &[u8],
        (log, position): (LogId, u64),
        author: AccountId,
    ) -> bool {
        self.contradicts(said, log, position) && self.alarmed.insert(author)
    }

    /// Whether the words of the author of the entry at `position` contradict what was read here.
    fn contradicts(&self, said: &[u8], log: LogId, position: u64) -> bool {
        let Ok(seen) = Seen::decode_exact(said) else {
            return false;
        };
        if seen.log == log && seen.position >= position {
            return true;
        }
        let known = self.marks.iter().rev();
        let mut known = known.filter(|mark| mark.log == seen.log && mark.position == seen.position);
        match (seen.hash, known.next()) {
            (Some(said), Some(mark)) => said != mark.hash,
            _ => false,
        }
    }

    /// Takes in an entry that is no commit that counted.
    pub(super) fn advance(&mut self, log: LogId, position: u64, entry: EntryId) {
        self.previous = self.previous.map(|hash| extend(hash, log, entry));
        self.newest = self.newest.map(|hash| extend(hash, log, entry));
        self.mark(log, position);
    }

    /// Takes in a commit that counted: the hash from the commit before it takes over.
    pub(super) fn turn(&mut self, log: LogId, position: u64, entry: EntryId) {
        self.previous = self.newest.map(|hash| extend(hash, log, entry));
        self.newest = Some(extend(start(), log, entry));
        self.alarmed.clear();
        while !self.marks.is_empty() {
            self.forget_oldest();
        }
        self.mark(log, position);
    }

    /// Notes the running hash at a place that has been reached, such as the head of the next log.
    pub(super) fn mark(&mut self, log: LogId, position: u64) {
        let Some(hash) = self.previous else { return };
        if self.marks.len() >= MARKS {
            self.forget_oldest();
        }
        self.marks.push_back(Mark { log, position, hash });
    }

    /// Forgets what was read: it is no longer what the log says.
    pub(super) fn lose(&mut self) {
        self.previous = None;
        self.newest = None;
        while !self.marks.is_empty() {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if self.marks.pop_front().is_some() {
            if self.first < self.unsaved {
                self.pruned.push(self.first);
            }
            self.first += 1;
            self.unsaved = self.unsaved.max(self.first);
        }
    }

    /// The record that is written with each entry.
    pub(super) fn head(&self) -> Head {
        let alarmed = self.alarmed.clone();
        Head { previous: self.previous, newest: self.newest, first: self.first, alarmed }
    }

    /// Marks that the store lacks, and the numbers of those that it may drop.
    pub(super) fn take_changes(&mut self) -> Vec<(u32, Option<Mark>)> {
        let gone = core::mem::take(&mut self.pruned);
        let skip = usize::try_from(self.unsaved - self.first).unwrap_or(usize::MAX);
        let fresh: Vec<_> = self.marks.iter().copied().skip(skip).collect();
        let mut changes: Vec<_> = gone.into_iter().map(|n| (slot(n), None)).collect();
        for (number, mark) in (self.unsaved..).zip(fresh) {
            changes.retain(|(taken, _)| *taken != slot(number));
            changes.push((slot(number), Some(mark)));
        }
        self.unsaved = self.first + self.marks.len() as u64;
        changes
    }

    /// Puts a view together from what was saved.
    pub(super) fn load(head: Head, marks: &mut std::collections::BTreeMap<u32, Mark>) -> Self {
        let mut view = Self {
            previous: head.previous,
            newest: head.newest,
            first: head.first,
            alarmed: head.alarmed,
            ..Self::default()
        };
        let mut number = head.first;
        while let Some(mark) = marks.remove(&slot(number)) {
            view.marks.push_back(mark);
            number += 1;
        }
        view.unsaved = number;
        view
    }
}

/// The part of a [`View`] that each entry changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    previous: Option<[u8; 32]>,
    newest: Option<[u8; 32]>,
    first: u64,
    alarmed: BTreeSet<AccountId>,
}

codec_struct!(Head { previous, newest, first, alarmed });

/// The place where a mark is stored: a ring, so that an old mark is written over.
fn slot(number: u64) -> u32 {
    u32::try_from(number % MARKS as u64).unwrap_or_default()
}

fn start() -> [u8; 32] {
    labelled_hash(Label::View, &[])
}

fn extend(hash: [u8; 32], log: LogId, entry: EntryId) -> [u8; 32] {
    labelled_hash(Label::View, &[&hash, log.as_bytes(), entry.as_bytes()])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const LOG: LogId = LogId::from_bytes([1; 32]);

    fn entry(n: u64) -> EntryId {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&n.to_be_bytes());
        EntryId::from_bytes(bytes)
    }

    /// A view and what a store has of it.
    struct Kept {
        view: View,
        marks: BTreeMap<u32, Mark>,
    }

    impl Kept {
        fn save_and_load(&mut self) {
            for (slot, mark) in self.view.take_changes() {
                match mark {
                    Some(mark) => self.marks.insert(slot, mark),
                    None => self.marks.remove(&slot),
                };
            }
            assert_eq!(self.marks.len(), self.view.marks.len());
            let loaded = View::load(self.view.head(), &mut self.marks.clone());
            assert_eq!(loaded.marks, self.view.marks);
            assert_eq!(loaded.alarmed, self.view.alarmed);
            self.view = loaded;
        }
    }

    #[test]
    fn a_ring_of_marks_survives_the_store_and_is_pruned_at_commits() {
        let view = View::from_start(LOG);
        let mut kept = Kept { view, marks: BTreeMap::new() };
        let mut said = Vec::new();
        for position in 1..=3000 {
            said.push((position - 1, kept.view.say(LOG, position - 1)));
            kept.view.advance(LOG, position, entry(position));
            if position % 3 == 0 {
                kept.save_and_load();
            }
        }
        for (position, said) in &said {
            assert!(!kept.view.contradicts(said, LOG, 3001), "{position}");
        }
        kept.view.turn(LOG, 3001, entry(3001));
        kept.save_and_load();
        assert_eq!(kept.marks.len(), 1);
    }

    #[test]
    fn audit_prog_m8_one_lost_entry_is_one_alarm_for_each_author_and_epoch() {
        let (ann, bob) = (AccountId::from_bytes([1; 32]), AccountId::from_bytes([2; 32]));
        let (mut one, mut other) = (View::from_start(LOG), View::from_start(LOG));
        one.advance(LOG, 1, entry(1));
        other.advance(LOG, 1, entry(2));
        let mut kept = Kept { view: one, marks: BTreeMap::new() };
        for (position, author, alarm) in [(2, ann, true), (3, ann, false), (4, bob, true)] {
            let said = other.say(LOG, position - 1);
            assert_eq!(kept.view.alarms(&said, (LOG, position), author), alarm, "{position}");
            kept.view.advance(LOG, position, entry(position));
            other.advance(LOG, position, entry(position));
            kept.save_and_load();
        }
        for view in [&mut kept.view, &mut other] {
            view.turn(LOG, 5, entry(5));
        }
        kept.save_and_load();
        assert!(kept.view.alarms(&other.say(LOG, 5), (LOG, 6), ann));
    }

    #[test]
    fn another_entry_or_position_is_seen_and_the_unknown_is_not() {
        let (mut one, mut other) = (View::from_start(LOG), View::from_start(LOG));
        one.advance(LOG, 1, entry(1));
        other.advance(LOG, 1, entry(2));
        assert!(one.contradicts(&other.say(LOG, 1), LOG, 2));
        assert!(!one.contradicts(&one.say(LOG, 1), LOG, 2));
        // Nobody can have read what comes later.
        assert!(one.contradicts(&one.say(LOG, 2), LOG, 2));
        let newcomer = View::default();
        assert!(!one.contradicts(&newcomer.say(LOG, 1), LOG, 2));
        assert!(!newcomer.contradicts(&one.say(LOG, 1), LOG, 2));
        assert!(!one.contradicts(b"nonsense", LOG, 2));
        // The hash from the last but one commit that counted takes two commits to forget.
        for view in [&mut one, &mut other] {
            view.turn(LOG, 2, entry(3));
            view.turn(LOG, 3, entry(4));
        }
        assert!(!one.contradicts(&other.say(LOG, 3), LOG, 4));
        let mut newcomer = newcomer;
        newcomer.turn(LOG, 2, entry(3));
        newcomer.turn(LOG, 3, entry(4));
        assert!(!one.contradicts(&newcomer.say(LOG, 3), LOG, 4));
        assert_eq!(newcomer.say(LOG, 3), one.say(LOG, 3));
    }
}
