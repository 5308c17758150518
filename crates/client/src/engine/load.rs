//! Reads an engine's state from the store.

use std::collections::BTreeMap;

use corncrake_core::{
    conversation::Conversation,
    id::{ConversationId, EntryId},
};

use super::{
    State, account,
    chats::{
        Chat, Chats,
        rows::{ChatRow, ClosedLog, Flight, GroupRow, Intent},
    },
    events::EventQueue,
    tables::{Table, decode, part_of},
};
use crate::{
    event::{Item, ItemKind},
    host::{Clock, Settings},
    store::{Order, SealedStore, Store, StoreError},
};

/// How many items at the end of a timeline are read to remember their messages.
const REMEMBERED_ITEMS: u32 = 256;

/// The whole state, as it was after the last batch.
pub(super) async fn state<S: Store>(
    store: &SealedStore<'_, S>,
    (settings, origin): (&Settings, &str),
    clock: Clock,
) -> Result<State, StoreError> {
    let account = account::load(store, clock).await?;
    let chats = chats(store).await?;
    let mut state = State::new(settings.clone(), origin.to_owned(), account, chats);
    state.events = events(store).await?;
    Ok(state)
}

/// Where the events stand; they themselves are read when somebody asks for them.
async fn events<S: Store>(store: &SealedStore<'_, S>) -> Result<EventQueue, StoreError> {
    let counters = match store.get(Table::Events.into(), EventQueue::COUNTERS, 0).await {
        Ok(None) => None,
        Ok(Some(bytes)) => Some(decode(&bytes)),
        Err(StoreError::Damaged) => Some(Err(StoreError::Damaged)),
        Err(error) => return Err(error),
    };
    Ok(EventQueue::stored(counters))
}

/// The events that the app has not taken.
pub(super) async fn waiting_events<S: Store>(
    store: &SealedStore<'_, S>,
    queue: &mut EventQueue,
) -> Result<(), StoreError> {
    let (table, all) = ((Table::Events.into(), [].as_slice()), 0..=u64::MAX);
    let rows = store.range_each(table, all, Order::Ascending, u32::MAX).await?;
    let rows = rows.into_iter();
    queue.load(rows.map(|(number, bytes)| (number, bytes.and_then(|bytes| decode(&bytes).ok()))));
    Ok(())
}

/// All chats; of those that rest, only what they need for that.
async fn chats<S: Store>(store: &SealedStore<'_, S>) -> Result<Chats, StoreError> {
    let mut chats = Chats::default();
    let all = &mut chats.all;
    for (_, bytes) in store.scan(Table::Chats.into()).await? {
        let row: ChatRow = decode(&bytes)?;
        all.insert(row.id, Chat { is_loaded: false, ..Chat::new(row) });
    }
    for (_, bytes) in store.scan(Table::Groups.into()).await? {
        let (id, group): (ConversationId, GroupRow) = decode(&bytes)?;
        all.entry(id).and_modify(|chat| chat.group = Some(group));
    }
    let mut intents = BTreeMap::new();
    for (number, bytes) in store.scan(Table::Intents.into()).await? {
        let (id, intent): (ConversationId, Intent) = decode(&bytes)?;
        intents.insert((id, number), intent);
    }
    for ((id, number), intent) in intents {
        all.entry(id).and_modify(|chat| chat.intents.push_back((number, intent)));
    }
    for (_, bytes) in store.scan(Table::Flights.into()).await? {
        let (id, flight): (ConversationId, Flight) = decode(&bytes)?;
        all.entry(id).and_modify(|chat| chat.flight = Some(flight));
    }
    for (number, bytes) in store.scan(Table::ClosedLogs.into()).await? {
        let (id, log): (ConversationId, ClosedLog) = decode(&bytes)?;
        all.entry(id).and_modify(|chat| drop(chat.closed.insert(number, log)));
    }
    for busy in chats.all.values_mut().filter(|chat| !chat.rests()) {
        group(store, busy).await?;
    }
    Ok(chats)
}

/// What is needed of a chat to read its log and to write to it.
pub(super) async fn group<S: Store>(
    store: &SealedStore<'_, S>,
    chat: &mut Chat,
) -> Result<(), StoreError> {
    let id = *chat.row.id.as_bytes();
    let rows = async |table: Table| {
        store.range((table.into(), &id), 0..=u64::MAX, Order::Ascending, u32::MAX).await
    };
    if chat.conversation.is_none() && chat.group.is_some() {
        let mut parts = Vec::new();
        for (index, bytes) in rows(Table::Parts).await? {
            let part = part_of(index).ok_or(StoreError::Damaged)?;
            parts.push((part, bytes.to_vec()));
        }
        let conversation = Conversation::load(parts).map_err(|_| StoreError::Damaged)?;
        chat.conversation = Some(conversation);
    }
    for (row, bytes) in rows(Table::Own).await? {
        let hash: EntryId = decode(&bytes)?;
        chat.own.insert(hash, row);
    }
    for (row, bytes) in rows(Table::Heard).await? {
        chat.heard.insert(row, decode(&bytes)?);
    }
    let timeline = (Table::Timeline.into(), id.as_slice());
    let items = store.range(timeline, 0..=u64::MAX, Order::Descending, REMEMBERED_ITEMS).await?;
    for (_, bytes) in items.into_iter().rev() {
        let item: Item = decode(&bytes)?;
        if let ItemKind::Message { id, sender, .. } = item.what {
            chat.remember(sender, id);
        }
    }
    for (number, bytes) in rows(Table::Kept).await? {
        chat.kept.insert(number, decode(&bytes)?);
    }
    for (number, bytes) in rows(Table::Sent).await? {
        chat.sent.insert(number, decode(&bytes)?);
    }
    chat.is_loaded = true;
    Ok(())
}
