//! A store in memory, for tests: what has been committed outlives every opener.

use core::ops::RangeInclusive;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use corncrake_core::seal::local::StoreKey;

use super::{Batch, Key, Order, Store, StoreError, Table};

/// Rows in memory. Clones share them, as two openers share a file; [`MemoryStore::snapshot`] makes
/// a copy that goes its own way, as a backup does.
#[derive(Clone, Debug)]
pub struct MemoryStore {
    key: StoreKey,
    rows: Arc<Mutex<Rows>>,
}

#[derive(Clone, Debug, Default)]
struct Rows {
    values: BTreeMap<Key, Vec<u8>>,
    fence: u64,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new(key: StoreKey) -> Self {
        Self { key, rows: Arc::default() }
    }

    /// A copy of what is committed now, independent from then on.
    #[must_use]
    pub fn snapshot(&self) -> Self {
        let rows = self.lock().clone();
        Self { key: self.key.clone(), rows: Arc::new(Mutex::new(rows)) }
    }

    /// The same rows, opened with another key.
    #[must_use]
    pub fn with_key(&self, key: StoreKey) -> Self {
        Self { key, rows: Arc::clone(&self.rows) }
    }

    fn lock(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    fn key(&self) -> &StoreKey {
        &self.key
    }

    async fn open_fence(&self) -> Result<u64, StoreError> {
        let mut rows = self.lock();
        rows.fence += 1;
        Ok(rows.fence)
    }

    async fn get(&self, key: Key) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.lock().values.get(&key).cloned())
    }

    async fn range(
        &self,
        (table, name): (Table, [u8; 16]),
        range: RangeInclusive<u64>,
        order: Order,
        limit: u32,
    ) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let key = |index| Key { table, name, index };
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let rows = self.lock();
        let found = rows.values.range(key(*range.start())..=key(*range.end()));
        let found = found.map(|(key, value)| (key.index, value.clone()));
        Ok(match order {
            Order::Ascending => found.take(limit).collect(),
            Order::Descending => found.rev().take(limit).collect(),
        })
    }

    async fn scan(&self, table: Table) -> Result<Vec<(Key, Vec<u8>)>, StoreError> {
        let first = Key { table, name: [0; 16], index: 0 };
        let last = Key { table, name: [0xFF; 16], index: u64::MAX };
        let rows = self.lock();
        Ok(rows.values.range(first..=last).map(|(key, value)| (*key, value.clone())).collect())
    }

    async fn commit(&self, batch: Batch, fence: u64) -> Result<(), StoreError> {
        let mut rows = self.lock();
        if rows.fence != fence {
            return Err(StoreError::Fenced);
        }
        let Batch { puts, deletes, delete_ranges, durability: _ } = batch;
        for (table, name) in delete_ranges {
            let key = |index| Key { table, name, index };
            let gone: Vec<_> =
                rows.values.range(key(0)..=key(u64::MAX)).map(|(key, _)| *key).collect();
            gone.iter().for_each(|key| drop(rows.values.remove(key)));
        }
        for key in deletes {
            rows.values.remove(&key);
        }
        rows.values.extend(puts);
        Ok(())
    }

    async fn forget(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn close(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
