//! The layer between engine and backend: ids become names, values are sealed for their row.

use core::ops::RangeInclusive;

use rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::{Batch, Durability, Key, Order, Store, StoreError, Table};

/// The table of this layer's own row, which tells whether the key is the right one.
const OWN_TABLE: Table = Table(0xFF);
const MARK: &[u8] = b"corncrake store 1";

/// A store opened by one engine.
#[derive(Debug)]
pub struct SealedStore<'a, S> {
    store: &'a S,
    fence: u64,
}

/// Changes in the clear: what an engine's step writes, to be sealed and committed as one batch.
///
/// Within one batch ranges are deleted first, then rows are deleted, then rows are put.
#[derive(Clone, Debug, Default)]
pub struct Writes {
    puts: Vec<(Row, Zeroizing<Vec<u8>>)>,
    deletes: Vec<Row>,
    delete_ranges: Vec<(Table, Vec<u8>)>,
}

/// A row by its name, and its value if that opens.
pub type NamedRow = ([u8; 16], u64, Option<Zeroizing<Vec<u8>>>);

/// A row by its id instead of its name.
type Row = (Table, Vec<u8>, u64);

impl Writes {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes a row. A value whose id must be known when a table is scanned contains that id.
    pub fn put(&mut self, table: Table, id: &[u8], index: u64, value: impl Into<Vec<u8>>) {
        self.puts.push(((table, id.to_vec(), index), Zeroizing::new(value.into())));
    }

    /// Deletes a row.
    pub fn delete(&mut self, table: Table, id: &[u8], index: u64) {
        self.deletes.push((table, id.to_vec(), index));
    }

    /// Deletes every row of an id.
    pub fn delete_all(&mut self, table: Table, id: &[u8]) {
        self.delete_ranges.push((table, id.to_vec()));
    }

    /// Whether there is nothing to commit.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.puts.is_empty() && self.deletes.is_empty() && self.delete_ranges.is_empty()
    }

    /// Adds the changes of `other` behind these.
    pub fn append(&mut self, other: Self) {
        let Self { puts, deletes, delete_ranges } = other;
        self.puts.extend(puts);
        self.deletes.extend(deletes);
        self.delete_ranges.extend(delete_ranges);
    }
}

impl<'a, S: Store> SealedStore<'a, S> {
    /// Takes the store over, whoever had it before, and checks the key.
    ///
    /// # Errors
    /// [`StoreError::WrongKey`], or an error of the backend.
    pub async fn open(store: &'a S, rng: &mut impl CryptoRng) -> Result<Self, StoreError> {
        let mark = Key { table: OWN_TABLE, name: [0; 16], index: 0 };
        let key = store.key();
        let known = store.get(mark).await?;
        if let Some(sealed) = &known {
            let opened = key.open(&mark.to_bytes(), sealed).map_err(|_| StoreError::WrongKey)?;
            if *opened != MARK {
                return Err(StoreError::Damaged);
            }
        }
        let fence = store.open_fence().await?;
        if known.is_none() {
            let sealed = key.seal(&mark.to_bytes(), MARK, rng);
            let batch = Batch { puts: vec![(mark, sealed)], ..Batch::default() };
            store.commit(batch, fence).await?;
        }
        Ok(Self { store, fence })
    }

    /// The value of a row.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if it doesn't open, or an error of the backend.
    pub async fn get(
        &self,
        table: Table,
        id: &[u8],
        index: u64,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        let key = self.row_key(table, id, index);
        let sealed = self.store.get(key).await?;
        sealed.map(|sealed| self.unseal(key, &sealed)).transpose()
    }

    /// At most `limit` rows of an id with an index in `range`, in `order`.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if one doesn't open, or an error of the backend.
    pub async fn range(
        &self,
        (table, id): (Table, &[u8]),
        range: RangeInclusive<u64>,
        order: Order,
        limit: u32,
    ) -> Result<Vec<(u64, Zeroizing<Vec<u8>>)>, StoreError> {
        let name = self.name(table, id);
        let rows = self.store.range((table, name), range, order, limit).await?;
        let open = |(index, sealed): (u64, Vec<u8>)| {
            let value = self.unseal(Key { table, name, index }, &sealed)?;
            Ok((index, value))
        };
        rows.into_iter().map(open).collect()
    }

    /// The same; `None` where a row doesn't open.
    ///
    /// # Errors
    /// An error of the backend.
    pub async fn range_each(
        &self,
        (table, id): (Table, &[u8]),
        range: RangeInclusive<u64>,
        order: Order,
        limit: u32,
    ) -> Result<Vec<(u64, Option<Zeroizing<Vec<u8>>>)>, StoreError> {
        let name = self.name(table, id);
        let rows = self.store.range((table, name), range, order, limit).await?;
        let open = |(index, sealed): (u64, Vec<u8>)| {
            (index, self.unseal(Key { table, name, index }, &sealed).ok())
        };
        Ok(rows.into_iter().map(open).collect())
    }

    /// Every row of a small table by its name and index; `None` where it doesn't open.
    ///
    /// # Errors
    /// An error of the backend.
    pub async fn scan_each(&self, table: Table) -> Result<Vec<NamedRow>, StoreError> {
        let rows = self.store.scan(table).await?;
        let open =
            |(key, sealed): (Key, Vec<u8>)| (key.name, key.index, self.unseal(key, &sealed).ok());
        Ok(rows.into_iter().map(open).collect())
    }

    /// The name of an id in a table.
    #[must_use]
    pub fn name(&self, table: Table, id: &[u8]) -> [u8; 16] {
        self.store.key().name(table.0, id)
    }

    /// Every value of a small table with its index, in no order that means anything.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if one doesn't open, or an error of the backend.
    pub async fn scan(&self, table: Table) -> Result<Vec<(u64, Zeroizing<Vec<u8>>)>, StoreError> {
        let rows = self.store.scan(table).await?;
        let open = |(key, sealed): (Key, Vec<u8>)| Ok((key.index, self.unseal(key, &sealed)?));
        rows.into_iter().map(open).collect()
    }

    /// Seals and commits all changes, or none; they are durable when it returns.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] if another opener has come since, or an error of the backend.
    pub async fn commit(&self, writes: Writes, rng: &mut impl CryptoRng) -> Result<(), StoreError> {
        self.commit_with(writes, Durability::Now, rng).await
    }

    /// Seals and commits all changes, or none.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] if another opener has come since, or an error of the backend.
    pub async fn commit_with(
        &self,
        writes: Writes,
        durability: Durability,
        rng: &mut impl CryptoRng,
    ) -> Result<(), StoreError> {
        let Writes { puts, deletes, delete_ranges } = writes;
        let key = self.store.key();
        let seal = |((table, id, index), value): (Row, Zeroizing<Vec<u8>>)| {
            let row = self.row_key(table, &id, index);
            (row, key.seal(&row.to_bytes(), &value, rng))
        };
        let puts = puts.into_iter().map(seal).collect();
        let row = |(table, id, index): Row| self.row_key(table, &id, index);
        let name = |(table, id): (Table, Vec<u8>)| (table, key.name(table.0, &id));
        let deletes = deletes.into_iter().map(row).collect();
        let delete_ranges = delete_ranges.into_iter().map(name).collect();
        let batch = Batch { puts, deletes, delete_ranges, durability };
        self.store.commit(batch, self.fence).await
    }

    /// Takes what was deleted or overwritten before out of every file.
    ///
    /// # Errors
    /// An error of the backend; it can be tried again.
    pub async fn forget(&self) -> Result<(), StoreError> {
        self.store.forget().await
    }

    fn row_key(&self, table: Table, id: &[u8], index: u64) -> Key {
        Key { table, name: self.name(table, id), index }
    }

    fn unseal(&self, key: Key, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        self.store.key().open(&key.to_bytes(), sealed).map_err(|_| StoreError::Damaged)
    }
}
