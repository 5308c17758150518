use corncrake_wire::{
    EntryKind, ErrorCode, limits,
    log::{Append, AppendReply, Beside, NewEntry, Part, Point, Read, States},
};

use crate::support::{Api, at, commit, messages, problem, stored, token};

#[tokio::test]
async fn entries_come_back_in_order_with_their_kinds() {
    let api = Api::start().await;
    let log = token(1);
    assert_eq!(api.read(&log, 0).await, Err(problem(ErrorCode::LogNotFound)));
    assert_eq!(api.append(&commit(&log, Point::START, b"founding")).await, Ok(stored(&[1], 1)));
    let batch = messages(&log, at(1, b"founding"), &[b"one", b"two", b"three"]);
    assert_eq!(api.append(&batch).await, Ok(stored(&[2, 3, 4], 4)));
    let page = api.read(&log, 0).await.unwrap();
    assert_eq!(page.head, 4);
    let got: Vec<_> =
        page.entries.iter().map(|e| (e.position, e.kind, e.bytes.as_slice())).collect();
    let want = [
        (1, EntryKind::Commit, &b"founding"[..]),
        (2, EntryKind::Message, b"one"),
        (3, EntryKind::Message, b"two"),
        (4, EntryKind::Message, b"three"),
    ];
    assert_eq!(got, want);
    assert_eq!(api.read(&log, 3).await.unwrap().entries.len(), 1);
    let past = api.read(&log, 9).await.unwrap();
    assert_eq!((past.entries.len(), past.head), (0, 4));
}

#[tokio::test]
async fn a_retried_append_returns_the_same_positions() {
    let api = Api::start().await;
    let log = token(1);
    let first = messages(&log, Point::START, &[b"one", b"two"]);
    for _ in 0..3 {
        assert_eq!(api.append(&first).await, Ok(stored(&[1, 2], 2)));
    }
    let founding = commit(&log, Point::START, b"commit");
    assert_eq!(api.append(&founding).await, Ok(stored(&[3], 3)));
    // Known entries keep their positions whatever was appended since.
    assert_eq!(api.append(&first).await, Ok(stored(&[1, 2], 3)));
    assert_eq!(api.append(&founding).await, Ok(stored(&[3], 3)));
    let mixed = messages(&log, at(3, b"commit"), &[b"two", b"new"]);
    assert_eq!(api.append(&mixed).await, Err(problem(ErrorCode::PartlyKnown)));
    assert_eq!(api.read(&log, 0).await.unwrap().entries.len(), 3);
    // The same bytes are new in another log.
    let other = messages(&token(2), Point::START, &[b"one"]);
    assert_eq!(api.append(&other).await, Ok(stored(&[1], 1)));
}

#[tokio::test]
async fn retries_are_known_in_memory_in_the_database_and_after_a_restart() {
    let mut api = Api::start().await;
    let log = token(1);
    let body = |n: u64| format!("message {n}").into_bytes();
    for n in 1..=40 {
        let append = messages(&log, Point::START, &[&body(n)]);
        assert_eq!(api.append(&append).await, Ok(stored(&[n], n)));
    }
    for round in 0..2 {
        for n in 1..=40 {
            let append = messages(&log, Point::START, &[&body(n)]);
            assert_eq!(api.append(&append).await, Ok(stored(&[n], 40)), "round {round}");
        }
        api = api.restart().await;
        let page = api.read(&log, 0).await.unwrap();
        let got: Vec<_> = page.entries.into_iter().map(|entry| entry.bytes).collect();
        assert_eq!(got, (1..=40).map(body).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn who_has_not_seen_the_newest_commit_gets_what_is_missing() {
    let api = Api::start().await;
    let log = token(1);
    api.append(&commit(&log, Point::START, b"c1")).await.unwrap();
    api.append(&messages(&log, at(1, b"c1"), &[b"m2", b"m3"])).await.unwrap();
    api.append(&commit(&log, at(1, b"c1"), b"c4")).await.unwrap();
    let c1 = at(1, b"c1");
    for append in [messages(&log, c1, &[b"late"]), commit(&log, c1, b"late")] {
        let Ok(AppendReply::Conflict { newest_commit, head, missing }) = api.append(&append).await
        else {
            panic!("a conflict");
        };
        assert_eq!((newest_commit, head), (at(4, b"c4"), 4));
        let missing: Vec<_> = missing.into_iter().map(|entry| entry.bytes).collect();
        assert_eq!(missing, [&b"m2"[..], b"m3", b"c4"]);
    }
    // One who claims to have seen more than there is conflicts too.
    let Ok(AppendReply::Conflict { newest_commit, head, missing }) =
        api.append(&messages(&log, at(9, b"ahead"), &[b"ahead"])).await
    else {
        panic!("a conflict");
    };
    assert_eq!((newest_commit, head, missing.len()), (at(4, b"c4"), 4, 0));
    // So does one who has seen another commit there.
    let other = api.append(&messages(&log, at(4, b"other"), &[b"other"])).await;
    assert!(matches!(other, Ok(AppendReply::Conflict { .. })));
    let Ok(AppendReply::Conflict { newest_commit, head, missing }) =
        api.append(&messages(&token(7), at(1, b"c1"), &[b"nowhere"])).await
    else {
        panic!("a conflict");
    };
    assert_eq!((newest_commit, head, missing.len()), (Point::START, 0, 0));
    assert_eq!(api.read(&token(7), 0).await, Err(problem(ErrorCode::LogNotFound)));
}

#[tokio::test]
async fn a_conflict_brings_one_page() {
    let api = Api::start().await;
    let log = token(1);
    for n in 0..5u8 {
        let bodies: Vec<Vec<u8>> = (0..64u8).map(|m| vec![n, m]).collect();
        let bodies: Vec<&[u8]> = bodies.iter().map(Vec::as_slice).collect();
        api.append(&messages(&log, Point::START, &bodies)).await.unwrap();
    }
    api.append(&commit(&log, Point::START, b"commit")).await.unwrap();
    let Ok(AppendReply::Conflict { newest_commit, head, missing }) =
        api.append(&messages(&log, Point::START, &[b"late"])).await
    else {
        panic!("a conflict");
    };
    assert_eq!((newest_commit, head, missing.len()), (at(321, b"commit"), 321, 256));
}

#[tokio::test]
async fn pages_are_limited_by_count_and_by_bytes_but_never_empty() {
    let api = Api::start().await;
    let log = token(1);
    let big = vec![7; limits::PAGE_BYTES + 5];
    api.append(&commit(&log, Point::START, &big)).await.unwrap();
    let page = api.read(&log, 0).await.unwrap();
    assert_eq!((page.entries.len(), page.head), (1, 1));
    assert_eq!(page.entries[0].bytes, big);
    let bodies: Vec<Vec<u8>> = (0..20u8).map(|n| vec![n; limits::MESSAGE]).collect();
    let bodies: Vec<&[u8]> = bodies.iter().map(Vec::as_slice).collect();
    api.append(&messages(&log, at(1, &big), &bodies)).await.unwrap();
    let page = api.read(&log, 0).await.unwrap();
    assert_eq!((page.entries.len(), page.head), (1, 21));
    assert_eq!(api.read(&log, 1).await.unwrap().entries.len(), 16);
    let read = |limit| Read { token: log.clone(), after: 1, limit, admission: Vec::new() };
    assert_eq!(api.call(&read(3)).await.unwrap().entries.len(), 3);
    assert_eq!(api.call(&read(0)).await.unwrap().entries.len(), 1);
}

#[tokio::test]
async fn welcome_state_and_opening_state_lie_beside() {
    let mut api = Api::start().await;
    let log = token(1);
    let mut founding = commit(&log, Point::START, b"c1");
    founding.entries[0].welcome = Some(b"welcome 1".to_vec());
    api.append(&founding).await.unwrap();
    api.append(&messages(&log, at(1, b"c1"), &[b"m2"])).await.unwrap();
    let mut second = commit(&log, at(1, b"c1"), b"c3");
    second.entries[0].state = Some(b"state 3".to_vec());
    second.opening = Some(b"another opening state".to_vec());
    api.append(&second).await.unwrap();
    for _ in 0..2 {
        let page = api.read(&log, 0).await.unwrap();
        let flags: Vec<_> = page.entries.iter().map(|e| (e.has_welcome, e.has_state)).collect();
        assert_eq!(flags, [(true, false), (false, false), (false, true)]);
        let beside = |position, part| {
            let call = Beside { token: log.clone(), position, part, admission: Vec::new() };
            let api = &api;
            async move { api.call(&call).await.map(|sealed| sealed.bytes) }
        };
        let missing = Err(problem(ErrorCode::NotFound));
        assert_eq!(beside(0, Part::State).await, Ok(b"opening".to_vec()));
        assert_eq!(beside(1, Part::Welcome).await, Ok(b"welcome 1".to_vec()));
        assert_eq!(beside(3, Part::State).await, Ok(b"state 3".to_vec()));
        assert_eq!(beside(0, Part::Welcome).await, missing);
        assert_eq!(beside(1, Part::State).await, missing);
        assert_eq!(beside(2, Part::Welcome).await, missing);
        assert_eq!(beside(u64::MAX, Part::State).await, missing);
        let states =
            |at_most, start| States { token: log.clone(), at_most, start, admission: Vec::new() };
        assert_eq!(api.call(&states(u64::MAX, 0)).await.unwrap().positions, [3, 0]);
        assert_eq!(api.call(&states(2, 0)).await.unwrap().positions, [0]);
        // What a fold needs comes along where it fits.
        let start = async |at_most, start| {
            let start = api.call(&states(at_most, start)).await.unwrap().start?;
            let positions: Vec<_> = start.page.entries.iter().map(|entry| entry.position).collect();
            Some((start.state, positions, start.page.head, start.welcome))
        };
        let welcome = Some(b"welcome 1".to_vec());
        let read = Read { token: log.clone(), after: 0, limit: 1, admission: Vec::new() };
        let head = api.call(&read).await.unwrap().head;
        let whole: Vec<_> = (1..=head).collect();
        assert_eq!(start(1, 4096).await, Some((b"opening".to_vec(), whole, head, welcome)));
        let behind: Vec<_> = (3..=head).collect();
        assert_eq!(start(u64::MAX, 4096).await, Some((b"state 3".to_vec(), behind, head, None)));
        assert_eq!(start(u64::MAX, 0).await, None);
        assert_eq!(start(1, 10).await, None);
        api = api.restart().await;
    }
    let states = States { token: token(9), at_most: 1, start: 0, admission: Vec::new() };
    assert_eq!(api.call(&states).await, Err(problem(ErrorCode::LogNotFound)));
}

#[tokio::test]
async fn what_does_not_fit_is_refused_and_not_stored() {
    let api = Api::start().await;
    let log = token(1);
    let rows = api.rows().await;
    let good = messages(&log, Point::START, &[b"one"]);
    let entry = |length| NewEntry::new(vec![1; length]);
    let beside = |welcome: bool| NewEntry {
        welcome: welcome.then(|| vec![1]),
        state: (!welcome).then(|| vec![1]),
        ..entry(3)
    };
    let kind = EntryKind::Commit;
    let too_big = Some(vec![0; limits::BESIDE + 1]);
    let many: Vec<_> = (0..65u8).map(|n| NewEntry::new(vec![n + 1])).collect();
    let cases = [
        (ErrorCode::BadBatch, Append { entries: vec![], ..good.clone() }),
        (ErrorCode::BadBatch, Append { entries: vec![entry(0)], ..good.clone() }),
        (ErrorCode::Malformed, Append { entries: many, ..good.clone() }),
        (ErrorCode::BadBatch, Append { entries: vec![entry(1), entry(1)], ..good.clone() }),
        (ErrorCode::BadBatch, Append { entries: vec![entry(1), entry(2)], kind, ..good.clone() }),
        (ErrorCode::BadBatch, Append { entries: vec![beside(true)], ..good.clone() }),
        (ErrorCode::BadBatch, Append { entries: vec![beside(false)], ..good.clone() }),
        (ErrorCode::TooLarge, Append { entries: vec![entry(limits::MESSAGE + 1)], ..good.clone() }),
        (
            ErrorCode::TooLarge,
            Append { entries: vec![entry(limits::COMMIT + 1)], kind, ..good.clone() },
        ),
        (
            ErrorCode::TooLarge,
            Append {
                entries: vec![NewEntry { welcome: too_big.clone(), ..entry(1) }],
                kind,
                ..good.clone()
            },
        ),
        (
            ErrorCode::TooLarge,
            Append {
                entries: vec![NewEntry { state: too_big.clone(), ..entry(1) }],
                kind,
                ..good.clone()
            },
        ),
        (ErrorCode::TooLarge, Append { opening: too_big, ..good.clone() }),
        (ErrorCode::TooLarge, Append { admission: vec![0; limits::ADMISSION + 1], ..good.clone() }),
        (ErrorCode::OpeningMissing, Append { opening: None, ..good.clone() }),
    ];
    for (code, append) in cases {
        assert_eq!(api.append(&append).await, Err(problem(code)));
    }
    assert_eq!(api.rows().await, rows);
    assert_eq!(api.append(&good).await, Ok(stored(&[1], 1)));
}

#[tokio::test]
async fn the_largest_commit_fits() {
    let api = Api::start().await;
    let log = token(1);
    let mut append = commit(&log, Point::START, &vec![1; limits::COMMIT]);
    append.entries[0].welcome = Some(vec![2; limits::BESIDE]);
    append.entries[0].state = Some(vec![3; limits::BESIDE]);
    append.opening = Some(vec![4; limits::BESIDE]);
    assert_eq!(api.append(&append).await, Ok(stored(&[1], 1)));
    let beside = Beside { token: log, position: 1, part: Part::State, admission: Vec::new() };
    assert_eq!(api.call(&beside).await.unwrap().bytes.len(), limits::BESIDE);
}

#[tokio::test]
async fn many_writers_of_one_log_leave_no_gap_and_no_double() {
    let api = Api::start().await;
    let log = token(1);
    let writers = (0..8u8).map(|writer| {
        let (api, log) = (&api, &log);
        async move {
            let mut mine = Vec::new();
            for n in 0..50u8 {
                let Ok(AppendReply::Stored { positions, .. }) =
                    api.append(&messages(log, Point::START, &[&[writer, n]])).await
                else {
                    panic!("stored");
                };
                mine.extend(positions);
            }
            assert!(mine.is_sorted());
            mine
        }
    });
    let mut all = futures_util::future::join_all(writers).await.concat();
    all.sort_unstable();
    assert_eq!(all, (1..=400).collect::<Vec<u64>>());
    let mut read = Vec::new();
    while read.len() < 400 {
        read.extend(api.read(&log, read.len() as u64).await.unwrap().entries);
    }
    for writer in 0..8u8 {
        let theirs: Vec<u8> =
            read.iter().filter(|e| e.bytes[0] == writer).map(|e| e.bytes[1]).collect();
        assert_eq!(theirs, (0..50).collect::<Vec<u8>>(), "a sender's order is the log's order");
    }
}
