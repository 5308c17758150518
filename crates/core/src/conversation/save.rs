//! Saving a conversation in parts: those of the group, and three kinds of our own.

use std::collections::{BTreeMap, BTreeSet};

use super::facts::{Cursor, Facts};
use super::roster::Roster;
use super::state::read_extensions;
use super::view::{Head, Mark, View};
use super::{Conversation, Error, Standing};
use crate::mls::codec::{Decode, Encode, pack, unpack};
use crate::mls::group::Group;
use crate::mls::public_group::PublicGroup;
use crate::mls::{self, PartId};

const VERSION: u8 = 1;

/// What changes at commits.
const FACTS: PartId = PartId { kind: 0x80, index: 0 };
/// What changes with each entry.
const CURSOR: PartId = PartId { kind: 0x81, index: 0 };
/// Running hashes of the view, one for each entry.
const MARK: u8 = 0x82;

/// What the store lacks.
#[derive(Debug)]
pub(super) struct Unsaved {
    pub(super) facts: bool,
    pub(super) cursor: bool,
    /// Parts of secrets that the store has.
    secrets: BTreeSet<PartId>,
    /// Parts of secrets that the store has to delete.
    dropped: BTreeSet<PartId>,
}

impl Unsaved {
    /// Nothing was saved yet.
    pub(super) fn all() -> Self {
        Self { facts: true, cursor: true, secrets: BTreeSet::new(), dropped: BTreeSet::new() }
    }

    /// The secrets of the group that was saved are gone.
    pub(super) fn drop_secrets(&mut self) {
        self.facts = true;
        self.dropped.append(&mut self.secrets);
    }
}

impl Conversation {
    /// The parts that changed since the last call, each with its new bytes, or `None` if it is to be
    /// deleted. All of them belong into one transaction, with what the reading gave.
    pub fn take_changes(&mut self) -> Vec<(PartId, Option<Vec<u8>>)> {
        let dropped = core::mem::take(&mut self.unsaved.dropped);
        let mut changes: BTreeMap<_, _> = dropped.into_iter().map(|part| (part, None)).collect();
        changes.extend(match &mut self.standing {
            Standing::Member(group) => group.take_changes(),
            Standing::Outside(public) => public.take_changes(),
        });
        for (part, bytes) in &changes {
            if bytes.is_none() {
                self.unsaved.secrets.remove(part);
            } else if !PublicGroup::holds_part(*part) {
                self.unsaved.secrets.insert(*part);
            }
        }
        if core::mem::take(&mut self.unsaved.facts) {
            let is_member = matches!(self.standing, Standing::Member(_));
            changes.insert(FACTS, Some(pack(VERSION, &(is_member, &self.facts))));
        }
        let marks = self.view.take_changes();
        if core::mem::take(&mut self.unsaved.cursor) || !marks.is_empty() {
            changes.insert(CURSOR, Some(pack(VERSION, &(self.cursor, self.view.head()))));
        }
        changes.extend(marks.into_iter().map(|(index, mark)| {
            let bytes = mark.map(|mark| mark.to_bytes());
            (PartId { kind: MARK, index }, bytes)
        }));
        changes.into_iter().collect()
    }

    /// Puts a conversation together from all of its saved parts.
    ///
    /// # Errors
    /// [`mls::Error::CorruptState`] if parts are missing or strange.
    pub fn load(parts: impl IntoIterator<Item = (PartId, Vec<u8>)>) -> Result<Self, Error> {
        let (mut facts, mut cursor) = (None, None);
        let mut marks = BTreeMap::new();
        let mut group = Vec::new();
        for (part, bytes) in parts {
            match part {
                FACTS => facts = Some(unpack::<(bool, Facts)>(VERSION, &bytes)?),
                CURSOR => cursor = Some(unpack::<(Cursor, Head)>(VERSION, &bytes)?),
                PartId { kind: MARK, index } => {
                    marks.insert(index, Mark::decode_exact(&bytes)?);
                }
                _ => group.push((part, bytes)),
            }
        }
        let corrupt = Error::Mls(mls::Error::CorruptState);
        let (is_member, facts) = facts.ok_or(corrupt)?;
        let (cursor, head) = cursor.ok_or(corrupt)?;
        let secrets = group.iter().map(|(part, _)| *part);
        let secrets = secrets.filter(|part| !PublicGroup::holds_part(*part)).collect();
        let standing = if is_member {
            Standing::Member(Box::new(Group::load(group)?))
        } else {
            Standing::Outside(Box::new(PublicGroup::load(group)?))
        };
        let public = standing.public();
        let context = read_extensions(public.extensions()).map_err(|_| corrupt)?;
        let roster = Roster::verify(public.leaves(), &context).map_err(|_| corrupt)?;
        Ok(Self {
            standing,
            context,
            roster,
            facts,
            cursor,
            view: View::load(head, &mut marks),
            unsaved: Unsaved { facts: false, cursor: false, secrets, dropped: BTreeSet::new() },
        })
    }
}
