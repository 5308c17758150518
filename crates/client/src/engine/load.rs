//! Reads an engine's state from the store.

use std::collections::BTreeMap;

use corncrake_core::{conversation::Conversation, id::EntryId};

use super::{
    State, account,
    chats::{
        Chat, Chats,
        rows::{ChatRow, ClosedLog, Flight, Intent},
    },
    state::EventQueue,
    tables::{Table, decode, part_of},
};
use crate::{
    event::{EventKind, Item, ItemKind},
    host::Settings,
    store::{Order, SealedStore, Store, StoreError},
};

/// How many items at the end of a timeline are read to remember their messages.
const REMEMBERED_ITEMS: u32 = 256;

/// The whole state, as it was after the last batch.
pub(super) async fn state<S: Store>(
    store: &SealedStore<'_, S>,
    settings: &Settings,
    origin: &str,
) -> Result<State, StoreError> {
    let account = account::load(store).await?;
    let mut chats = Chats::default();
    for (_, bytes) in store.scan(Table::Chats.into()).await? {
        let row: ChatRow = decode(&bytes)?;
        let chat = chat(store, row).await?;
        chats.all.insert(chat.row.id, chat);
    }
    let mut state = State::new(settings.clone(), origin.to_owned(), account, chats);
    state.events = events(store).await?;
    Ok(state)
}

async fn events<S: Store>(store: &SealedStore<'_, S>) -> Result<EventQueue, StoreError> {
    let mut queue = EventQueue::default();
    if let Some(bytes) = store.get(Table::Events.into(), EventQueue::COUNTER, 0).await? {
        queue.next = decode(&bytes)?;
    }
    let all = 0..=u64::MAX;
    let rows = store.range((Table::Events.into(), &[]), all, Order::Ascending, u32::MAX).await?;
    for (sequence, bytes) in rows {
        queue.next = queue.next.max(sequence + 1);
        queue.waiting.push_back((sequence, decode::<EventKind>(&bytes)?));
    }
    Ok(queue)
}

async fn chat<S: Store>(store: &SealedStore<'_, S>, row: ChatRow) -> Result<Chat, StoreError> {
    let id = *row.id.as_bytes();
    let rows = async |table: Table| {
        store.range((table.into(), &id), 0..=u64::MAX, Order::Ascending, u32::MAX).await
    };
    let mut parts = Vec::new();
    for (index, bytes) in rows(Table::Parts).await? {
        let part = part_of(index).ok_or(StoreError::Damaged)?;
        parts.push((part, bytes.to_vec()));
    }
    let conversation = match parts.is_empty() {
        true => None,
        false => Some(Conversation::load(parts).map_err(|_| StoreError::Damaged)?),
    };
    let mut chat = Chat::new(row, conversation);
    for (_, bytes) in rows(Table::Intents).await? {
        let intent: (u64, Intent) = decode(&bytes)?;
        chat.intents.push_back(intent);
    }
    if let Some(bytes) = store.get(Table::Flights.into(), &id, 0).await? {
        let flight: Flight = decode(&bytes)?;
        chat.flight = Some(flight);
    }
    for (row, bytes) in rows(Table::Own).await? {
        let hash: EntryId = decode(&bytes)?;
        chat.own.insert(hash, row);
    }
    let mut closed = BTreeMap::new();
    for (number, bytes) in rows(Table::ClosedLogs).await? {
        let log: ClosedLog = decode(&bytes)?;
        closed.insert(number, log);
    }
    chat.closed = closed;
    let timeline = (Table::Timeline.into(), id.as_slice());
    let items = store.range(timeline, 0..=u64::MAX, Order::Descending, REMEMBERED_ITEMS).await?;
    for (_, bytes) in items.into_iter().rev() {
        let item: Item = decode(&bytes)?;
        if let ItemKind::Message { id, sender, .. } = item.what {
            chat.remember(sender, id);
        }
    }
    Ok(chat)
}
