//! Where a client keeps its state: sealed rows, written in batches that hold as a whole.
//!
//! A [`Store`] is a backend: it sees keys and sealed values only. The engine goes through
//! [`sealed::SealedStore`], which turns ids into names and seals every value for its row.

use core::fmt;
use core::ops::RangeInclusive;

use corncrake_core::seal::local::StoreKey;

pub mod memory;
pub mod sealed;
#[cfg(not(target_arch = "wasm32"))]
pub mod sqlite;

pub use memory::MemoryStore;
pub use sealed::{SealedStore, Writes};
#[cfg(not(target_arch = "wasm32"))]
pub use sqlite::SqliteStore;

/// The number of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Table(pub u8);

/// The key of a row: a table, the pseudorandom name of an id, and a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The table.
    pub table: Table,
    /// A pseudorandom function of the id, so that the file shows no ids.
    pub name: [u8; 16],
    /// The row's number among those of its name.
    pub index: u64,
}

impl Key {
    /// The key as bytes, to which a value is bound.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 25] {
        let mut bytes = [self.table.0; 25];
        let parts = self.name.into_iter().chain(self.index.to_be_bytes());
        bytes.iter_mut().skip(1).zip(parts).for_each(|(byte, part)| *byte = part);
        bytes
    }
}

/// Changes that a backend makes together or not at all: first the ranges are deleted, then the
/// rows, then rows are put.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Rows to write, in place of what stands there.
    pub puts: Vec<(Key, Vec<u8>)>,
    /// Rows to delete; one that isn't there is no error.
    pub deletes: Vec<Key>,
    /// Names of which every row goes.
    pub delete_ranges: Vec<(Table, [u8; 16])>,
    /// When the changes outlive a failure of the power.
    pub durability: Durability,
}

/// When a batch outlives a failure of the power; the end of the program, however it comes, it
/// outlives in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// When its commit has returned.
    #[default]
    Now,
    /// With the next batch that is durable at once, or with the next [`Store::forget`] or
    /// [`Store::close`].
    Soon,
}

/// The order in which a range is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// From the lowest index up.
    Ascending,
    /// From the highest index down.
    Descending,
}

/// Why the store didn't do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process, or another client of this process, has it open.
    InUse,
    /// Another opener has taken the store over since; this one must stop.
    Fenced,
    /// The key is not the one with which the store was made.
    WrongKey,
    /// A row or the file itself isn't what was written.
    Damaged,
    /// The account in it is on another server.
    WrongServer,
    /// There is no space left to write.
    Full,
    /// Its file was removed, or another was put in its place, while it was open.
    Replaced,
    /// Reading or writing failed: no permission, a broken disk, or the store is closed.
    Unavailable,
}

impl StoreError {
    /// The stable code of this error.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::InUse => "store_in_use",
            Self::Fenced => "store_fenced",
            Self::WrongKey => "store_wrong_key",
            Self::Damaged => "store_damaged",
            Self::WrongServer => "wrong_server",
            Self::Full => "store_full",
            Self::Replaced => "store_replaced",
            Self::Unavailable => "store_unavailable",
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InUse => "the store is open elsewhere",
            Self::Fenced => "the store has been taken over by another opener",
            Self::WrongKey => "the store was made with another key, or is damaged",
            Self::Damaged => {
                "the store is damaged: put back a copy, or log in anew with an empty one"
            }
            Self::WrongServer => {
                "the store's account is on another server: give that server's address, or another \
                 store"
            }
            Self::Full => "the disk is full: make room and try again",
            Self::Replaced => {
                "the store was removed or replaced while it was open: what came since is not in it"
            }
            Self::Unavailable => "the store cannot be read or written",
        })
    }
}

impl core::error::Error for StoreError {}

/// A place for sealed rows with one opener at a time.
///
/// Futures need not be `Send`: the engine drives them on one thread.
#[expect(async_fn_in_trait, reason = "the engine drives these futures on one thread")]
pub trait Store: 'static {
    /// The key under which everything in this store is named and sealed; the app gave it.
    fn key(&self) -> &StoreKey;

    /// Takes the store over: from now on only batches with the returned fence are accepted.
    ///
    /// # Errors
    /// [`StoreError`] of the backend.
    async fn open_fence(&self) -> Result<u64, StoreError>;

    /// The value of a row.
    ///
    /// # Errors
    /// [`StoreError`] of the backend.
    async fn get(&self, key: Key) -> Result<Option<Vec<u8>>, StoreError>;

    /// At most `limit` rows of one name with an index in `range`, in `order`.
    ///
    /// # Errors
    /// [`StoreError`] of the backend.
    async fn range(
        &self,
        name: (Table, [u8; 16]),
        range: RangeInclusive<u64>,
        order: Order,
        limit: u32,
    ) -> Result<Vec<(u64, Vec<u8>)>, StoreError>;

    /// Every row of a table, by name and index; for small tables.
    ///
    /// # Errors
    /// [`StoreError`] of the backend.
    async fn scan(&self, table: Table) -> Result<Vec<(Key, Vec<u8>)>, StoreError>;

    /// Makes all changes of `batch` or none. A failure of the power loses at most batches at the
    /// end that are durable [soon](Durability::Soon), never one before another that is kept. An
    /// empty batch that is durable [now](Durability::Now) makes all before it durable.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] if another opener has come since, or an error of the backend.
    async fn commit(&self, batch: Batch, fence: u64) -> Result<(), StoreError>;

    /// Takes what was deleted or overwritten before out of every file that the store keeps. The
    /// engine calls it within a second of the batches that it concerns.
    ///
    /// # Errors
    /// [`StoreError`] of the backend; the rows are as they were, and it can be tried again.
    async fn forget(&self) -> Result<(), StoreError>;

    /// Ends the use of the store: another may open it when this returns. Everything else answers
    /// [`StoreError::Unavailable`] from then on.
    ///
    /// # Errors
    /// [`StoreError`] of the backend if the last bytes can't be moved to their place; nothing is
    /// lost then, the next opener moves them.
    async fn close(&self) -> Result<(), StoreError>;
}

#[cfg(test)]
mod tests;
