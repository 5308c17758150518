//! All chats by their ids. Tests count how many of them are looked at.

use core::ops::{Deref, DerefMut};
use std::collections::BTreeMap;

use corncrake_core::id::ConversationId;

use super::Chat;

/// A map of chats.
#[derive(Debug, Default)]
pub(crate) struct All(BTreeMap<ConversationId, Chat>);

impl All {
    /// Looks at one chat after the other.
    pub(crate) fn values(&self) -> impl Iterator<Item = &Chat> {
        self.0.values().inspect(|_| looks::note())
    }

    /// Looks at one chat after the other, to change them.
    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut Chat> {
        self.0.values_mut().inspect(|_| looks::note())
    }

    /// Looks at one chat.
    pub(crate) fn get(&self, id: &ConversationId) -> Option<&Chat> {
        self.0.get(id).inspect(|_| looks::note())
    }
}

impl Deref for All {
    type Target = BTreeMap<ConversationId, Chat>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for All {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

#[cfg(not(test))]
mod looks {
    pub(super) const fn note() {}
}

#[cfg(test)]
pub(super) mod looks {
    use core::cell::Cell;

    thread_local! {
        static LOOKS: Cell<usize> = const { Cell::new(0) };
    }

    pub(super) fn note() {
        LOOKS.set(LOOKS.get() + 1);
    }

    /// How often this thread looked at a chat since it asked last.
    pub(in super::super) fn take() -> usize {
        LOOKS.take()
    }
}
