//! Who was in the group when this device said something. What the server loses is said again only
//! as long as nobody else is there: whoever came in since was not meant. Instead all are told that
//! something is not repeated, for those who had not read it.

use std::collections::{BTreeMap, BTreeSet};

use corncrake_core::{
    content::{Body, Message},
    id::AccountId,
    seal::record::Anchor,
};

use super::trail::anchor_of;
use crate::{
    engine::{
        State, Step,
        chats::{Chat, rows::Intent},
        tables::Table,
    },
    event::ItemKind,
};

/// The accounts to which own messages were said, by number; each takes the place of the one before.
#[derive(Debug, Default)]
pub(crate) struct Audiences {
    all: BTreeMap<u64, BTreeSet<AccountId>>,
    /// The epoch of which the newest one is.
    epoch: Option<Anchor>,
}

impl Audiences {
    pub(in crate::engine) fn load(&mut self, number: u64, accounts: BTreeSet<AccountId>) {
        self.all.insert(number, accounts);
    }

    pub(in crate::engine) fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Chat {
    /// The number of those who are in the group now.
    pub(super) fn audience(&mut self, step: &mut Step<'_>) -> u64 {
        let Some(conversation) = &self.conversation else {
            return 0;
        };
        let newest = self.audiences.all.last_key_value();
        let (number, epoch) = (newest.map_or(0, |(number, _)| *number), anchor_of(conversation));
        if self.audiences.epoch.replace(epoch) == Some(epoch) {
            return number;
        }
        let here: BTreeSet<_> = conversation.members().iter().map(|one| one.account).collect();
        if newest.is_some_and(|(_, known)| *known == here) {
            return number;
        }
        step.put(Table::Audiences, self.row.id.as_bytes(), number + 1, &here);
        self.audiences.all.insert(number + 1, here);
        number + 1
    }

    /// Forgets those to whom no message was said that is still kept.
    pub(super) fn forget_audiences(&mut self, step: &mut Step<'_>) {
        let sent = self.sent.values().map(|sent| sent.audience);
        let waiting = self.intents.iter().filter_map(|(_, intent)| match intent {
            Intent::Send { said_to, .. } => *said_to,
            Intent::Change(_) => None,
        });
        let newest = self.audiences.all.last_key_value().map(|(number, _)| *number);
        let Some(least) = sent.chain(waiting).chain(newest).min() else {
            return;
        };
        let kept = self.audiences.all.split_off(&least);
        for number in core::mem::replace(&mut self.audiences.all, kept).into_keys() {
            step.delete(Table::Audiences, self.row.id.as_bytes(), number);
        }
    }

    /// Whether somebody is in the group who wasn't in this audience.
    pub(super) fn holds_others_than(&self, audience: u64) -> bool {
        let known = self.audiences.all.get(&audience);
        self.conversation.as_ref().is_some_and(|conversation| {
            let mut here = conversation.members().into_iter().map(|member| member.account);
            here.any(|who| known.is_none_or(|known| !known.contains(&who)))
        })
    }
}

impl State {
    /// Takes the text out of what would be said again to others than before.
    pub(in crate::engine::chats) fn withhold(&mut self, chat: &mut Chat, step: &mut Step<'_>) {
        let Some(me) = self.account.me().map(|me| me.account) else {
            return;
        };
        let said_to = chat.intents.iter().filter_map(|(_, intent)| match intent {
            Intent::Send { said_to, .. } => *said_to,
            Intent::Change(_) => None,
        });
        let said_to: BTreeSet<u64> = said_to.collect();
        let strange: BTreeSet<u64> =
            said_to.into_iter().filter(|audience| chat.holds_others_than(*audience)).collect();
        if strange.is_empty() {
            return;
        }
        let mut told = Vec::new();
        for (number, intent) in &mut chat.intents {
            if let Intent::Send { id, time, content, said_to, .. } = intent
                && said_to.take_if(|audience| strange.contains(audience)).is_some()
                && let Ok(bytes) =
                    (Message { id: *id, time: *time, body: Body::NotRepeated }).encode()
            {
                *content = bytes.to_vec();
                told.push(*id);
                step.put(Table::Intents, chat.row.id.as_bytes(), *number, &(chat.row.id, &*intent));
            }
        }
        for id in told {
            self.tell_item(chat, ItemKind::NotRepeated { id, sender: me }, step);
        }
    }
}
