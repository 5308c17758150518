//! What must hold in every world that has come to rest: all who belong to a chat are in one group
//! and can talk, what was acknowledged is shown once, and nothing is missing without a line that
//! says so.

use std::collections::{BTreeMap, BTreeSet};

use corncrake::{
    AccountId, ChatInfo, ConversationId, Delivery, EventKind, Item, ItemKind, Member, MessageId,
    Standing,
};

use crate::{device::Device, network::PROMPT, world::World};

/// What a timeline may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    /// Nobody misbehaved: no alarm, nothing unreadable, nobody locked out.
    Honest,
    /// Somebody misbehaved: the timeline may say so.
    Attacked,
}

type Message = (AccountId, MessageId);

/// One device's timeline, as the checks see it.
struct Timeline {
    device: Device,
    items: Vec<Item>,
    /// Number of the line of each message.
    shown: BTreeMap<Message, usize>,
}

impl Timeline {
    fn of(device: &Device, chat: ConversationId, mood: Mood) -> Self {
        let items = device.history(chat);
        let mut shown = BTreeMap::new();
        for (line, item) in items.iter().enumerate() {
            if let ItemKind::Message { id, sender, delivery, .. } = &item.what {
                assert!(
                    *delivery != Delivery::Queued,
                    "{}: still queued at rest: {item:?}",
                    device.label()
                );
                if matches!(delivery, Delivery::Failed(_)) {
                    continue;
                }
                let twice = shown.insert((*sender, *id), line);
                assert!(twice.is_none(), "{}: shown twice: {item:?}", device.label());
            }
            let alarming = matches!(
                item.what,
                ItemKind::Unreadable { .. }
                    | ItemKind::LockedOut { .. }
                    | ItemKind::ViewDiffers { .. }
            );
            assert!(
                mood == Mood::Attacked || !alarming,
                "{}: an alarm among honest people: {item:?}",
                device.label()
            );
        }
        Self { device: device.clone(), items, shown }
    }

    /// Whether it tells that the server has lost entries.
    fn tells_of_a_loss(&self) -> bool {
        self.items.iter().any(|item| item.what == ItemKind::ServerLostEntries)
    }

    /// Whether line `line` tells that something was not readable here.
    fn tells_of_a_hole(&self, line: usize) -> bool {
        matches!(
            self.items[line].what,
            ItemKind::JoinedHere
                | ItemKind::Gap
                | ItemKind::Expired
                | ItemKind::ServerLostEntries
                | ItemKind::Unreadable { .. }
                | ItemKind::LockedOut { .. }
        )
    }
}

impl World {
    /// The devices that know the chat and stand in it.
    pub(crate) fn members_of(&self, chat: ConversationId) -> Vec<(Device, ChatInfo)> {
        let devices = self.devices().into_iter();
        devices
            .filter_map(|device| device.info(chat).ok().map(|info| (device, info)))
            .filter(|(_, info)| info.standing == Standing::Member)
            .collect()
    }

    /// Checks that everybody who belongs to the chat is in one group, can talk, and was shown
    /// what was said. The world must be at rest; it is at rest again afterwards.
    pub(crate) fn agree(&self, chat: ConversationId, mood: Mood) {
        self.check_complaints();
        let members = self.members_of(chat);
        assert!(!members.is_empty(), "nobody is left in the chat");
        for (device, info) in &members {
            let (first, known) = &members[0];
            assert_eq!(
                facts(info),
                facts(known),
                "{} and {} know different groups",
                device.label(),
                first.label()
            );
        }
        for (device, info) in &members {
            let is_strange = |member: &&Member| member.unnamed > 0;
            let strange = info.members.iter().find(is_strange);
            assert!(
                mood == Mood::Attacked || strange.is_none(),
                "{}: devices of honest people that look like a thief's: {strange:?}",
                device.label()
            );
        }
        for member in &members[0].1.members {
            let here = members.iter().filter(|(_, info)| me(info) == Some(member.account)).count();
            let lost = self.has_lost_devices();
            assert!(
                here == member.devices || (lost && here <= member.devices) || here == 0,
                "{:?}: {} devices in the group, {here} know it",
                member.name,
                member.devices
            );
        }
        let mut words = Vec::new();
        for (device, _) in &members {
            let text = format!("a word from {}", device.label());
            words.push((device.clone(), device.say(chat, &text)));
        }
        self.settle();
        let timelines: Vec<_> =
            members.iter().map(|(device, _)| Timeline::of(device, chat, mood)).collect();
        for (speaker, word) in &words {
            for timeline in &timelines {
                assert!(
                    timeline.shown.keys().any(|(_, id)| id == word),
                    "{} does not hear {}",
                    timeline.device.label(),
                    speaker.label()
                );
            }
        }
        // Who came or was away when the server lost entries does not tell of it.
        let is_lossy = timelines.iter().any(Timeline::tells_of_a_loss);
        assert!(
            mood == Mood::Attacked || !is_lossy || self.server().borrow().has_lost,
            "the server has lost nothing"
        );
        for (one, timeline) in timelines.iter().enumerate() {
            check_events(timeline, chat);
            self.check_prompt(timeline, chat, &timelines);
            check_said(timeline, chat);
            // What a server has lost is said again in another order.
            for other in timelines.iter().skip(one + 1).filter(|_| !is_lossy) {
                check_order(timeline, other);
            }
            for other in &timelines {
                check_holes(timeline, other, is_lossy);
            }
        }
        self.check_complaints();
    }

    /// What was said while nothing was wrong was seen by everybody who shows it as soon as the
    /// network allows, or as soon as they had come in.
    fn check_prompt(&self, speaker: &Timeline, chat: ConversationId, listeners: &[Timeline]) {
        for said in speaker.device.said().iter().filter(|said| said.chat == chat) {
            for listener in listeners {
                // What a server has lost is said again to whoever is there then.
                if [speaker, listener].iter().any(|timeline| timeline.tells_of_a_loss()) {
                    continue;
                }
                let told = listener.device.told();
                let Some(&seen) = told.seen.get(&(chat, said.id)) else {
                    continue;
                };
                let added = told.added.get(&chat).copied().filter(|&added| added < seen);
                let since = said.at.max(added.unwrap_or(0));
                assert!(
                    seen <= since + PROMPT || !self.network().was_calm(since, since + PROMPT),
                    "“{}” reaches {} only after {} ms although nothing is wrong",
                    said.text,
                    listener.device.label(),
                    seen - since
                );
            }
        }
    }

    /// What apps must never see, and engines must never do.
    pub(crate) fn check_complaints(&self) {
        let complaints = self.network().complaints();
        assert!(complaints.is_empty(), "the server breaks its word: {complaints:?}");
        for device in self.devices() {
            let complaints = &device.told().complaints;
            assert!(complaints.is_empty(), "{}: {complaints:?}", device.label());
        }
    }
}

fn facts(info: &ChatInfo) -> BTreeSet<(AccountId, String, usize)> {
    let members = info.members.iter();
    members.map(|m| (m.account, format!("{:?}", m.role), m.devices)).collect()
}

fn me(info: &ChatInfo) -> Option<AccountId> {
    info.members.iter().find(|member| member.is_me).map(|member| member.account)
}

/// What the app was told, event by event, is the timeline.
fn check_events(timeline: &Timeline, chat: ConversationId) {
    let label = timeline.device.label();
    for (number, item) in timeline.items.iter().enumerate() {
        assert_eq!(item.number, number as u64, "{label}: a number is missing");
    }
    if !timeline.device.follows_events() {
        return;
    }
    let mut told = BTreeMap::new();
    for event in timeline.device.told().events.values() {
        if let EventKind::Item { chat: of, item } = &event.what
            && *of == chat
        {
            told.insert(item.number, item.clone());
        }
    }
    let told: Vec<_> = told.into_values().collect();
    assert_eq!(told, timeline.items, "{label}: the events tell another timeline");
}

/// Every message that was acknowledged has a line, sent or failed.
fn check_said(timeline: &Timeline, chat: ConversationId) {
    for said in timeline.device.said().iter().filter(|said| said.chat == chat) {
        let lines = timeline.items.iter().filter(|item| match &item.what {
            ItemKind::Message { id, text, .. } => *id == said.id && *text == said.text,
            _ => false,
        });
        assert_eq!(lines.count(), 1, "{}: “{}” is lost", timeline.device.label(), said.text);
    }
}

/// What both were shown stands in the same order.
fn check_order(one: &Timeline, other: &Timeline) {
    let mut newest = None;
    for item in &one.items {
        let ItemKind::Message { id, sender, .. } = &item.what else {
            continue;
        };
        let Some(&there) = other.shown.get(&(*sender, *id)) else {
            continue;
        };
        assert!(
            newest < Some(there),
            "{} and {} show different orders: {item:?}",
            one.device.label(),
            other.device.label()
        );
        newest = Some(there);
    }
}

/// A message that `one` was shown and `other` wasn't has a line at `other` that says why.
fn check_holes(one: &Timeline, other: &Timeline, is_lossy: bool) {
    for (message, &line) in &one.shown {
        if other.shown.contains_key(message) {
            continue;
        }
        // Between the nearest messages before and after it that both were shown.
        let common = one
            .shown
            .iter()
            .filter_map(|(message, &line)| other.shown.get(message).map(|&there| (line, there)));
        let (before, after): (Vec<_>, Vec<_>) = common.partition(|(here, _)| *here < line);
        let from = before.into_iter().max().map_or(0, |(_, there)| there);
        let to = after.into_iter().min().map_or(other.items.len(), |(_, there)| there);
        // What a server has lost is said again in another order.
        let said_at = one.items[line].at;
        let is_gap = |item: &Item| match item.what {
            ItemKind::Gap => true,
            ItemKind::JoinedHere => item.at >= said_at,
            _ => false,
        };
        // Nobody says again what the server has lost of somebody who was removed meanwhile.
        let has_gone = |item: &Item| matches!(&item.what, ItemKind::Removed { who, .. } if who.contains(&message.0));
        let is_withheld = |item: &Item| matches!(&item.what, ItemKind::NotRepeated { id, sender } if (*sender, *id) == *message);
        if other.items.iter().any(is_withheld) {
            continue;
        }
        let is_loss = |item: &Item| item.what == ItemKind::ServerLostEntries && item.at >= said_at;
        let went_with_sender = one.items.iter().any(has_gone) && other.items.iter().any(is_loss);
        let is_told = is_lossy
            && (went_with_sender || other.items.iter().any(|item| is_gap(item) || has_gone(item)));
        assert!(
            is_told || (from..to).any(|line| other.tells_of_a_hole(line)),
            "{} was shown {:?}, {} was not and does not say so",
            one.device.label(),
            one.items[line].what,
            other.device.label()
        );
    }
}
