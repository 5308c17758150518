//! What a device of the world gives its engine.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    ops::RangeInclusive,
    rc::Rc,
};

use corncrake::{
    host::{Host, Moment, Settings, Timestamp},
    store::{Batch, Durability, Key, MemoryStore, Order, Store, StoreError, Table},
};
use corncrake_core::seal::local::StoreKey;
use corncrake_wire::opaque::Stretch;
use futures_util::FutureExt;
use rand_chacha::ChaCha8Rng;

use crate::{chance::Chance, crash::Crasher, executor::Executor, link::Link, server::ORIGIN};

/// The outside of one engine.
pub(crate) struct WorldHost {
    store: WorldStore,
    link: Link,
    executor: Executor,
    chance: RefCell<Chance>,
    settings: Settings,
    /// By how many milliseconds the device's clock is wrong.
    set_by: Rc<Cell<i64>>,
}

impl WorldHost {
    pub(crate) fn new(
        executor: &Executor,
        memory: MemoryStore,
        link: Link,
        late: Late,
        crasher: Rc<Crasher>,
        chance: Chance,
    ) -> Self {
        let store = WorldStore::new(memory, late, crasher, executor.clone());
        let settings =
            Settings { key_packages: 4, stretch: Stretch::with(cheap_stretch), chats_in_memory: 1 };
        let (executor, chance) = (executor.clone(), RefCell::new(chance));
        Self { store, link, executor, chance, settings, set_by: Rc::default() }
    }

    /// Refuses to store anything while the disk is full.
    pub(crate) fn with_disk(mut self, is_full: Rc<Cell<bool>>) -> Self {
        self.store.is_full = is_full;
        self
    }

    /// Counts what is committed.
    pub(crate) fn counting(mut self, commits: Rc<Commits>) -> Self {
        self.store.commits = commits;
        self
    }

    /// Shows the time with this error, in milliseconds, which may change while it runs.
    pub(crate) fn with_clock(self, set_by: Rc<Cell<i64>>) -> Self {
        Self { set_by, ..self }
    }
}

/// Stands for the slow hash of products.
pub(crate) fn cheap_stretch(password: &[u8], output: &mut [u8]) {
    for (at, byte) in output.iter_mut().enumerate() {
        *byte = password.get(at % password.len().max(1)).map_or(0, |byte| byte ^ 0x5c);
    }
}

impl Host for WorldHost {
    type Store = WorldStore;
    type Transport = Link;
    type Random = ChaCha8Rng;

    fn store(&self) -> &WorldStore {
        &self.store
    }

    fn origin(&self) -> &str {
        ORIGIN
    }

    fn transport(&self) -> &Link {
        &self.link
    }

    fn random(&self) -> ChaCha8Rng {
        self.chance.borrow_mut().fork()
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.executor.now().saturating_add_signed(self.set_by.get()))
    }

    fn moment(&self) -> Moment {
        Moment(self.executor.now())
    }

    async fn sleep_until(&self, until: Moment) {
        self.executor.sleep_until(until.0).await;
    }

    async fn run_slow<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        self.store.crasher.point("before slow work").await;
        self.executor.sleep(5).await;
        work()
    }

    fn settings(&self) -> &Settings {
        &self.settings
    }
}

/// A fault in the engine that is put on from outside: what the engine commits becomes durable too
/// late, as if the engine had not waited for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Late {
    /// Nothing is late.
    Nothing,
    /// Batches with rows of this table.
    BatchesWith(u8),
    /// Rows of this table; the rest of their batches is in time.
    Rows(u8),
}

/// How late that is, in milliseconds.
const LATENESS: u64 = 400;

/// A store in memory whose device may die before and after each batch.
pub(crate) struct WorldStore {
    /// What the engine sees.
    seen: MemoryStore,
    /// What outlives the engine; the same rows unless something is late.
    durable: MemoryStore,
    durable_fence: Cell<u64>,
    late: Late,
    crasher: Rc<Crasher>,
    executor: Executor,
    is_full: Rc<Cell<bool>>,
    /// What rows held before the batches that may be lost with the power.
    unsynced: RefCell<BTreeMap<Key, Option<Vec<u8>>>>,
    fence: Cell<u64>,
    /// How often the device had died when this was opened.
    life: u64,
    commits: Rc<Commits>,
}

/// How often a device has committed.
#[derive(Debug, Default)]
pub(crate) struct Commits {
    /// Batches for which it waited until they were on the disk.
    pub(crate) synced: Cell<u64>,
    /// Others.
    pub(crate) soon: Cell<u64>,
}

impl WorldStore {
    fn new(durable: MemoryStore, late: Late, crasher: Rc<Crasher>, executor: Executor) -> Self {
        let seen = if late == Late::Nothing { durable.clone() } else { durable.snapshot() };
        let (durable_fence, is_full, life) = (Cell::new(0), Rc::default(), crasher.life());
        Self {
            seen,
            durable,
            durable_fence,
            late,
            crasher,
            executor,
            is_full,
            unsynced: RefCell::default(),
            fence: Cell::new(0),
            life,
            commits: Rc::default(),
        }
    }

    /// Notes what a batch overwrites that may be lost with the power, or that all is on the disk.
    async fn note_durability(&self, batch: &Batch) -> Result<(), StoreError> {
        let mut keys: Vec<Key> = batch.puts.iter().map(|(key, _)| *key).collect();
        keys.extend(&batch.deletes);
        for (table, name) in &batch.delete_ranges {
            let all = 0..=u64::MAX;
            let rows = self.seen.range((*table, *name), all, Order::Ascending, u32::MAX).await?;
            let key = |(index, _)| Key { table: *table, name: *name, index };
            keys.extend(rows.into_iter().map(key));
        }
        if batch.durability == Durability::Now {
            self.commits.synced.set(self.commits.synced.get() + 1);
            self.unsynced.borrow_mut().clear();
            return Ok(());
        }
        self.commits.soon.set(self.commits.soon.get() + 1);
        for key in keys {
            let before = self.seen.get(key).await?;
            self.unsynced.borrow_mut().entry(key).or_insert(before);
        }
        Ok(())
    }

    /// What of `batch` becomes durable in time, and what later.
    fn split(&self, batch: &Batch) -> (Batch, Batch) {
        let (mut now, mut later) = (batch.clone(), Batch::default());
        match self.late {
            Late::Nothing => {}
            Late::BatchesWith(table) => {
                if batch.puts.iter().any(|(key, _)| key.table.0 == table) {
                    std::mem::swap(&mut now, &mut later);
                }
            }
            Late::Rows(table) => {
                let is_late = |key: &Key| key.table.0 == table;
                later.puts = now.puts.extract_if(.., |(key, _)| is_late(key)).collect();
                later.deletes = now.deletes.extract_if(.., |key| is_late(key)).collect();
            }
        }
        (now, later)
    }
}

impl Store for WorldStore {
    fn key(&self) -> &StoreKey {
        self.seen.key()
    }

    async fn open_fence(&self) -> Result<u64, StoreError> {
        let fence = self.seen.open_fence().await?;
        if self.late != Late::Nothing {
            self.durable_fence.set(self.durable.open_fence().await?);
        }
        Ok(fence)
    }

    async fn get(&self, key: Key) -> Result<Option<Vec<u8>>, StoreError> {
        self.seen.get(key).await
    }

    async fn range(
        &self,
        name: (Table, [u8; 16]),
        range: RangeInclusive<u64>,
        order: Order,
        limit: u32,
    ) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        self.seen.range(name, range, order, limit).await
    }

    async fn scan(&self, table: Table) -> Result<Vec<(Key, Vec<u8>)>, StoreError> {
        self.seen.scan(table).await
    }

    async fn commit(&self, batch: Batch, fence: u64) -> Result<(), StoreError> {
        self.crasher.point("before a batch").await;
        if self.is_full.get() {
            return Err(StoreError::Full);
        }
        if self.late != Late::Nothing {
            let (now, later) = self.split(&batch);
            let fence = self.durable_fence.get();
            self.durable.commit(now, fence).await?;
            let (durable, executor) = (self.durable.clone(), self.executor.clone());
            let (crasher, life) = (self.crasher.clone(), self.crasher.life());
            self.executor.spawn(async move {
                executor.sleep(LATENESS).await;
                if crasher.life() == life {
                    durable.commit(later, fence).await.expect("the fence is ours");
                }
            });
        }
        self.fence.set(fence);
        self.note_durability(&batch).await?;
        self.seen.commit(batch, fence).await?;
        self.crasher.point("after a batch").await;
        Ok(())
    }

    async fn forget(&self) -> Result<(), StoreError> {
        self.unsynced.borrow_mut().clear();
        self.seen.forget().await
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.unsynced.borrow_mut().clear();
        self.seen.close().await
    }
}

impl Drop for WorldStore {
    /// Every other death is a failure of the power: what was not synced is lost.
    fn drop(&mut self) {
        let unsynced = std::mem::take(&mut *self.unsynced.borrow_mut());
        if unsynced.is_empty() || self.late != Late::Nothing || self.life % 2 == 1 {
            return;
        }
        let mut undo = Batch::default();
        for (key, before) in unsynced {
            match before {
                Some(value) => undo.puts.push((key, value)),
                None => undo.deletes.push(key),
            }
        }
        // Whoever has opened the store since found it as it is.
        let _ = self.seen.commit(undo, self.fence.get()).now_or_never();
    }
}
