use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use corncrake_core::derive::Key32;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;

use super::*;

const ONE: Table = Table(1);
const TWO: Table = Table(2);

pub(super) fn store_key(byte: u8) -> StoreKey {
    StoreKey::new(&Key32::from_bytes([byte; 32]))
}

pub(super) fn rng() -> ChaCha20Rng {
    ChaCha20Rng::from_seed([1; 32])
}

/// The memory store never waits, so its futures are ready at once.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the memory store waits for nothing"),
    }
}

#[test]
fn rows_are_read_as_written() {
    now(check_rows(&MemoryStore::new(store_key(1))));
}

/// What every backend must do; also run by the tests of the others.
pub(super) async fn check_rows(store: &impl Store) {
    let sealed = SealedStore::open(store, &mut rng()).await.unwrap();
    let mut writes = Writes::new();
    assert!(writes.is_empty());
    for index in [0, 1, 7, u64::MAX] {
        writes.put(ONE, b"a", index, format!("a{index}"));
    }
    writes.put(ONE, b"b", 3, "b3");
    writes.put(TWO, b"a", 1, "other table");
    sealed.commit(writes, &mut rng()).await.unwrap();

    let value = sealed.get(ONE, b"a", 7).await.unwrap();
    assert_eq!(value.as_deref().map(Vec::as_slice), Some(b"a7".as_slice()));
    assert_eq!(sealed.get(ONE, b"a", 2).await, Ok(None));
    let indices = async |range, order, limit| {
        let rows = sealed.range((ONE, b"a"), range, order, limit).await.unwrap();
        rows.into_iter().map(|(index, _)| index).collect::<Vec<_>>()
    };
    assert_eq!(indices(0..=u64::MAX, Order::Ascending, 3).await, [0, 1, 7]);
    assert_eq!(indices(0..=u64::MAX, Order::Descending, 2).await, [u64::MAX, 7]);
    assert_eq!(indices(1..=7, Order::Descending, 9).await, [7, 1]);
    #[expect(clippy::reversed_empty_ranges, reason = "an empty range is what is tested")]
    let empty = 7..=1;
    assert!(indices(empty, Order::Ascending, 9).await.is_empty());
    assert_eq!(sealed.scan(ONE).await.unwrap().len(), 5);

    let mut writes = Writes::new();
    writes.delete_all(ONE, b"a");
    writes.delete(ONE, b"b", 3);
    writes.delete(ONE, b"b", 4);
    writes.put(ONE, b"a", 1, "again");
    sealed.commit(writes, &mut rng()).await.unwrap();
    let left = sealed.scan(ONE).await.unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].1.as_slice(), b"again");
    assert_eq!(sealed.scan(TWO).await.unwrap().len(), 1);
}

#[test]
fn a_second_opener_fences_the_first() {
    let store = MemoryStore::new(store_key(1));
    let first = now(SealedStore::open(&store, &mut rng())).unwrap();
    let second = now(SealedStore::open(&store, &mut rng())).unwrap();
    let mut writes = Writes::new();
    writes.put(ONE, b"a", 0, "x");
    assert_eq!(now(first.commit(writes.clone(), &mut rng())), Err(StoreError::Fenced));
    assert_eq!(now(second.get(ONE, b"a", 0)), Ok(None));
    assert_eq!(now(second.commit(writes, &mut rng())), Ok(()));
}

#[test]
fn another_key_is_told_from_damage() {
    let store = MemoryStore::new(store_key(1));
    now(SealedStore::open(&store, &mut rng())).unwrap();
    let fence = now(store.open_fence()).unwrap();
    let other = store.with_key(store_key(2));
    let refused = now(SealedStore::open(&other, &mut rng()));
    assert_eq!(refused.err(), Some(StoreError::WrongKey));
    let batch = Batch::default();
    assert_eq!(now(store.commit(batch, fence)), Ok(()), "a refused opener fences nobody");
}

#[test]
fn values_that_change_rows_are_damage() {
    let store = MemoryStore::new(store_key(1));
    let sealed = now(SealedStore::open(&store, &mut rng())).unwrap();
    let mut writes = Writes::new();
    writes.put(ONE, b"a", 0, "x");
    writes.put(ONE, b"a", 1, "y");
    now(sealed.commit(writes, &mut rng())).unwrap();
    let row = |index| Key { table: ONE, name: store_key(1).name(1, b"a"), index };
    let moved = now(store.get(row(0))).unwrap().unwrap();
    let batch = Batch { puts: vec![(row(1), moved)], ..Batch::default() };
    let fence = now(store.open_fence()).unwrap();
    now(store.commit(batch, fence)).unwrap();
    assert_eq!(now(sealed.get(ONE, b"a", 1)), Err(StoreError::Damaged));
    let whole = now(sealed.range((ONE, b"a"), 0..=9, Order::Ascending, 9));
    assert_eq!(whole, Err(StoreError::Damaged));
}

#[test]
fn a_snapshot_goes_its_own_way() {
    let store = MemoryStore::new(store_key(1));
    let backup = store.snapshot();
    let sealed = now(SealedStore::open(&store, &mut rng())).unwrap();
    let mut writes = Writes::new();
    writes.put(ONE, b"a", 0, "x");
    now(sealed.commit(writes, &mut rng())).unwrap();
    let old = now(SealedStore::open(&backup, &mut rng())).unwrap();
    assert_eq!(now(old.get(ONE, b"a", 0)), Ok(None));
}

#[test]
fn the_key_as_bytes_is_table_name_index() {
    let key = Key { table: Table(3), name: [4; 16], index: 0x0102_0304_0506_0708 };
    let mut expected = vec![3];
    expected.extend([4; 16]);
    expected.extend([1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(key.to_bytes(), *expected);
}
