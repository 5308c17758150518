use proptest::prelude::*;

use super::*;
use crate::EntryId;

fn point(position: u64, id: u8) -> Point {
    Point { position, id: EntryId([id; 32]) }
}

/// Before the first entry, and two entries at each position.
fn points(head: u64) -> impl Iterator<Item = Point> {
    let entries = (1..=head).flat_map(|position| [point(position, 1), point(position, 2)]);
    core::iter::once(Point::START).chain(entries)
}

#[test]
fn every_small_case_follows_the_rule() {
    for kind in [EntryKind::Commit, EntryKind::Message] {
        for head in 0..4u64 {
            for newest in points(head) {
                for after in points(4) {
                    for count in 0..4usize {
                        for mask in 0..1u64 << count {
                            let known: Vec<_> = (0..count)
                                .map(|i| (mask >> i & 1 == 1).then_some(i as u64 + 1))
                                .collect();
                            let all = mask.count_ones() as usize == count;
                            let got = decide(head, newest, &known, kind, after);
                            let want = match () {
                                () if count == 0 => Decision::Refuse(ErrorCode::BadBatch),
                                () if kind == EntryKind::Commit && count > 1 => {
                                    Decision::Refuse(ErrorCode::BadBatch)
                                }
                                () if all => Decision::Stored((1..=count as u64).collect()),
                                () if mask != 0 => Decision::Refuse(ErrorCode::PartlyKnown),
                                () if after != newest => Decision::Conflict,
                                () => Decision::Place { first: head + 1 },
                            };
                            assert_eq!(got, want, "{kind:?} {head} {newest:?} {after:?} {known:?}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn a_batch_holds_64_messages_and_no_more() {
    let two = point(2, 1);
    let place = Decision::Place { first: 8 };
    assert_eq!(decide(7, two, &[None; 64], EntryKind::Message, two), place);
    let refused = Decision::Refuse(ErrorCode::BadBatch);
    assert_eq!(decide(7, two, &[None; 65], EntryKind::Message, two), refused);
}

/// A log that follows the decision, as every server does.
#[derive(Default)]
struct Log {
    entries: Vec<(u8, EntryKind)>,
}

impl Log {
    fn newest_commit(&self) -> Point {
        let newest = self.entries.iter().rposition(|(_, kind)| *kind == EntryKind::Commit);
        newest.map_or(Point::START, |at| point(at as u64 + 1, self.entries[at].0))
    }

    fn append(&mut self, ids: &[u8], kind: EntryKind, after: Point) -> Decision {
        let known: Vec<_> = ids
            .iter()
            .map(|id| self.entries.iter().position(|(e, _)| e == id).map(|at| at as u64 + 1))
            .collect();
        let head = self.entries.len() as u64;
        let decision = decide(head, self.newest_commit(), &known, kind, after);
        if matches!(decision, Decision::Place { .. }) {
            self.entries.extend(ids.iter().map(|id| (*id, kind)));
        }
        decision
    }
}

proptest! {
    #[test]
    fn a_log_holds_each_entry_once_and_every_sender_saw_the_newest_commit(
        appends in prop::collection::vec((0u8..40, 1usize..4, any::<bool>(), 0u64..3), 1..60),
    ) {
        let mut log = Log::default();
        for (id, count, commit, behind) in appends {
            let kind = if commit { EntryKind::Commit } else { EntryKind::Message };
            let count = if commit { 1 } else { count };
            let ids: Vec<u8> = (id..).take(count).collect();
            let newest = log.newest_commit();
            let after = match behind {
                0 => newest,
                1 => Point { id: EntryId([99; 32]), ..newest },
                _ => Point { position: newest.position + 1, ..newest },
            };
            let before = log.entries.len();
            match log.append(&ids, kind, after) {
                Decision::Place { first } => {
                    prop_assert_eq!(after, newest);
                    prop_assert_eq!(first, before as u64 + 1);
                    let again = log.append(&ids, kind, after);
                    let positions = (first..).take(count).collect();
                    prop_assert_eq!(again, Decision::Stored(positions));
                }
                Decision::Conflict => prop_assert_ne!(after, newest),
                Decision::Stored(_) | Decision::Refuse(_) => {
                    prop_assert_eq!(before, log.entries.len());
                }
            }
            let mut ids: Vec<_> = log.entries.iter().map(|(id, _)| *id).collect();
            ids.sort_unstable();
            ids.dedup();
            prop_assert_eq!(ids.len(), log.entries.len());
        }
    }
}
