//! End-to-end encrypted chats in ten lines: accounts, conversations, sync, outbox, local store.

mod chat;
mod client;
mod command;
mod engine;
mod error;
mod event;
pub mod host;
#[cfg(not(target_arch = "wasm32"))]
mod native;
pub mod store;
pub mod transport;

pub use chat::{Begun, Chat, Sending};
pub use client::{Client, Events, NewGroup};
pub use corncrake_core::id::{AccountId, ConversationId, DeviceId, MessageId};
pub use corncrake_core::identity::SafetyNumber;
pub use corncrake_core::seal::local::StoreKey;
pub use error::{Error, Refusal};
pub use event::{
    Account, Added, Adding, ChatInfo, ChatKind, Connection, Delivery, Device, Event, EventKind,
    Item, ItemKind, LeftOut, Member, Role, Standing,
};
pub use host::Timestamp;
#[cfg(not(target_arch = "wasm32"))]
pub use store::SqliteStore;
