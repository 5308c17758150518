//! End-to-end encrypted chats in ten lines: accounts, conversations, sync, outbox, local store.
