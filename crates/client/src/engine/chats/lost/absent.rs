//! Devices that were off while the server lost a commit of the group. Others come back before them and
//! go on; what they say meanwhile is sealed for a leaf whose keys are gone with the lost commit. When
//! such a device comes in again, by a commit that puts a new leaf in the place of that one, it is said
//! again.
//!
//! Only to a device whose leaf was in the group all the time: one that was removed since, or came in
//! since, was not meant.

use std::collections::{BTreeMap, BTreeSet};

use corncrake_core::{
    conversation::CommitReport,
    id::{AccountId, DeviceId, MessageId},
};
use serde::{Deserialize, Serialize};

use super::{Chat, OTHERS_RETURN};
use crate::engine::{Step, tables::Table};

/// How far back in the chat a message may be that is said again to somebody who has come in again:
/// all others have to know it still, to show it once.
const NEWEST: usize = 512;
/// The first wait until it is said again, so that it is said once to all who come in at the same time,
/// is doubled so often at most, to about an hour.
const DOUBLED: u32 = 9;

/// Devices that have been in the group since this one came back from a loss, and have not acted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Absent {
    /// With the number of the first own message that each may not be able to read.
    since: BTreeMap<DeviceId, u64>,
}

impl Absent {
    pub(in crate::engine::chats) fn clear(&mut self) {
        self.since.clear();
    }
}

impl Chat {
    /// This device is in the group again after a loss, and has said nothing since: others may be about
    /// to come back as well, some of them much later.
    pub(super) fn await_others(&mut self, me: Option<DeviceId>, step: &mut Step<'_>) {
        let next = self.sent.last_key_value().map_or(1, |(number, _)| number + 1);
        let members = self.conversation.iter().flat_map(|here| here.members());
        let devices = members.flat_map(|member| member.devices).map(|sender| sender.device);
        let others = devices.filter(|device| Some(*device) != me);
        // One that was off before this loss as well lacks what was said before it, too.
        let first =
            |device: &DeviceId| self.absent.since.get(device).map_or(next, |n| next.min(*n));
        let since = others.map(|device| (device, first(&device))).collect();
        self.session.said_again = 0;
        self.put_absent(since, step);
    }

    /// Whoever isn't in the group may be brought in later, and is not meant by what is said before.
    pub(in crate::engine::chats) fn awaits_members_only(&mut self, step: &mut Step<'_>) {
        let members = self.conversation.iter().flat_map(|here| here.members());
        let devices: BTreeSet<DeviceId> =
            members.flat_map(|member| member.devices).map(|sender| sender.device).collect();
        let mut since = self.absent.since.clone();
        since.retain(|device, _| devices.contains(device));
        self.put_absent(since, step);
    }

    /// This device is out of the group.
    pub(in crate::engine::chats) fn awaits_nobody(&mut self, step: &mut Step<'_>) {
        self.row.say_from = None;
        self.absent.clear();
        step.delete(Table::Absent, self.row.id.as_bytes(), 0);
    }

    /// The own messages are erased, and numbers begin anew.
    pub(in crate::engine::chats) fn nothing_is_sent(&mut self, step: &mut Step<'_>) {
        self.row.say_from = None;
        let since = self.absent.since.keys().map(|device| (*device, 0)).collect();
        self.put_absent(since, step);
    }

    /// A device acts, and so reads what is said.
    pub(in crate::engine::chats) fn is_here(&mut self, device: DeviceId, step: &mut Step<'_>) {
        if self.absent.since.contains_key(&device) {
            let mut since = self.absent.since.clone();
            since.remove(&device);
            self.put_absent(since, step);
        }
    }

    /// A commit counts: who comes in again by it lacks what was said since this device came back; who
    /// is taken out by it is awaited no more.
    pub(in crate::engine::chats) fn mind_returned(
        &mut self,
        report: &CommitReport,
        step: &mut Step<'_>,
    ) {
        let author = report.author.device;
        let is_again = report.removed.iter().any(|gone| gone.device == author);
        let since = self.absent.since.get(&author).copied();
        for gone in &report.removed {
            self.is_here(gone.device, step);
        }
        let Some(since) = since.filter(|_| report.external && is_again && !report.own) else {
            return;
        };
        if self.sent.range(since..).next().is_none() {
            return;
        }
        self.row.say_from = Some(self.row.say_from.map_or(since, |from| from.min(since)));
        let wait = OTHERS_RETURN.saturating_mul(1 << self.session.said_again.min(DOUBLED));
        let at = step.moment.after(wait);
        self.session.say_at.get_or_insert(at);
        if self.session.said_again == 0 {
            // What is new comes behind it.
            self.session.others_return = Some(at);
        }
    }

    /// Whether own messages are about to be said again to somebody who has come in again.
    pub(in crate::engine::chats) const fn says_again_soon(&self) -> bool {
        self.row.say_from.is_some() && self.session.said_again == 0
    }

    /// Says again what those lack who have come in again, when it is time. Others know it and show it
    /// once. Nothing is said again as long as somebody is there who wasn't when it was said.
    pub(in crate::engine::chats) fn say_to_returned(&mut self, step: &mut Step<'_>) {
        let Some(from) = self.row.say_from else {
            return;
        };
        let soon = step.moment.after(OTHERS_RETURN);
        let at = *self.session.say_at.get_or_insert(soon);
        if at > step.moment {
            return self.wake_by(at);
        }
        self.session.say_at = None;
        self.session.said_again = self.session.said_again.saturating_add(1);
        self.row.say_from = None;
        let newest = self.recent.iter().rev().take(NEWEST);
        let newest: BTreeSet<MessageId> = newest.map(|(_, id): &(AccountId, _)| *id).collect();
        let since = self.sent.range(from..).filter(|(_, sent)| newest.contains(&sent.id));
        let audiences: BTreeSet<u64> = since.clone().map(|(_, sent)| sent.audience).collect();
        let here = |audience: &u64| !self.holds_others_than(*audience);
        let audiences: BTreeSet<u64> = audiences.into_iter().filter(here).collect();
        let meant = since.filter(|(_, sent)| audiences.contains(&sent.audience));
        let meant: BTreeSet<u64> = meant.map(|(number, _)| *number).collect();
        self.say_again_if(|number, _| meant.contains(&number), step);
        self.save(step);
    }

    fn put_absent(&mut self, since: BTreeMap<DeviceId, u64>, step: &mut Step<'_>) {
        if self.absent.since == since {
            return;
        }
        self.absent.since = since;
        let id = self.row.id;
        if self.absent.since.is_empty() {
            step.delete(Table::Absent, id.as_bytes(), 0);
        } else {
            step.put(Table::Absent, id.as_bytes(), 0, &self.absent);
        }
    }
}
