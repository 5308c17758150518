//! The real binary under load: what one address can do to it, and what it may cost.
#![cfg(target_os = "linux")]

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use corncrake_wire::{
    AccessToken, CONTENT_TYPE, Call, ClientFrame, OPEN_SOCKET, SESSION_HEADER, ServerFrame, encode,
    limits,
    log::{Append, AppendReply, Beside, NewEntry, Part, Point},
};
use futures_util::{SinkExt, StreamExt, future::join_all};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::{sleep, timeout},
};
use tokio_tungstenite::{MaybeTlsStream, client_async, tungstenite::Message};

use crate::{
    process::Process,
    support::{LOGS, Socket, database, messages, random, subscribe, token},
};

/// A connection from the 127.0.0.`last` of many.
async fn connect(to: SocketAddr, last: u8) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(IpAddr::from([127, 0, 0, last]), 0))?;
    socket.connect(to).await
}

async fn socket(to: SocketAddr, last: u8) -> Option<Socket> {
    let stream = MaybeTlsStream::Plain(connect(to, last).await.ok()?);
    let (stream, _) = client_async(format!("ws://{to}{OPEN_SOCKET}"), stream).await.ok()?;
    let mut socket = Socket(stream);
    socket.hear().await?;
    Some(socket)
}

fn disk(folder: &Path) -> u64 {
    std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().metadata().map_or(0, |data| data.len()))
        .sum()
}

/// Sends small messages one after another for a while, and gives the 99th percentile of the
/// times until they were acknowledged.
async fn light_sender(to: SocketAddr, time: Duration) -> Duration {
    let mut socket = socket(to, 2).await.expect("a second address gets in");
    let token = AccessToken::new(random());
    let (begun, mut times) = (Instant::now(), Vec::new());
    while begun.elapsed() < time {
        let sent = Instant::now();
        let append = messages(&token, Point::START, &[&random()]);
        socket.say(&ClientFrame::Append { request: 0, append }).await;
        match socket.hear().await {
            Some(ServerFrame::AppendReply { result: Ok(AppendReply::Stored { .. }), .. }) => {}
            other => panic!("the light sender is refused: {other:?}"),
        }
        times.push(sent.elapsed());
        sleep(Duration::from_millis(40)).await;
    }
    times.sort_unstable();
    assert!(times.len() > 20, "{}", times.len());
    times[times.len() * 99 / 100]
}

/// Pipelines appends of so many entries, as large as they may be, to one log or to new ones.
async fn pipeline_appends(to: SocketAddr, (entries, new_logs): (u8, bool), sent: &AtomicU32) {
    let mut log = AccessToken::new(random());
    let entry = vec![7; limits::MESSAGE];
    loop {
        let Some(mut socket) = socket(to, 1).await else {
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        socket.say(&subscribe(log.clone())).await;
        for request in 0.. {
            if new_logs {
                log = AccessToken::new(random());
            }
            let entries = (0..entries).map(|n| {
                let mut entry = entry.clone();
                entry[0] = n;
                entry[1..33].copy_from_slice(&random());
                NewEntry::new(entry)
            });
            let mut append = messages(&log, Point::START, &[]);
            append.entries = entries.collect();
            let append_size = append.entries.len();
            let frame = encode(&ClientFrame::Append { request, append });
            let sending = socket.0.feed(Message::Binary(frame.into()));
            if !timeout(Duration::from_secs(1), sending).await.is_ok_and(|sent| sent.is_ok()) {
                break;
            }
            sent.fetch_add(u32::try_from(append_size).unwrap(), Ordering::Relaxed);
            // Replies are read as they come, so that nobody else waits.
            while let Ok(Some(Ok(_))) = timeout(Duration::from_millis(1), socket.0.next()).await {}
        }
    }
}

/// Announces a long message, sends a part of it, and pings.
async fn unfinished_message(to: SocketAddr) {
    loop {
        let Some(mut socket) = socket(to, 1).await else {
            sleep(Duration::from_millis(500)).await;
            continue;
        };
        socket.say(&subscribe(AccessToken::new(random()))).await;
        let MaybeTlsStream::Plain(stream) = socket.0.get_mut() else { panic!("no TLS here") };
        let announced = 4 * 1024 * 1024u64;
        let mut header = vec![0x02, 0x80 | 127];
        header.extend(announced.to_be_bytes());
        header.extend([0; 4]);
        let mut alive = stream.write_all(&header).await.is_ok();
        let some = vec![0; 4 * 1024 * 1024 - 10];
        alive &= timeout(Duration::from_secs(2), stream.write_all(&some)).await.is_ok();
        while alive {
            sleep(Duration::from_secs(1)).await;
            alive = stream.write_all(&[0]).await.is_ok();
        }
    }
}

/// Posts something raw and does not read the reply.
async fn post(to: SocketAddr, path: &str, length: usize, body: &[u8]) -> Option<TcpStream> {
    post_from(1, to, path, length, body).await
}

async fn post_from(
    last: u8,
    to: SocketAddr,
    path: &str,
    length: usize,
    body: &[u8],
) -> Option<TcpStream> {
    let mut stream = connect(to, last).await.ok()?;
    // The open plane takes no sessions.
    let session = match path.contains("/open/") {
        true => String::new(),
        false => format!("{SESSION_HEADER}: {}\r\n", "ab".repeat(32)),
    };
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: a\r\ncontent-type: {CONTENT_TYPE}\r\n\
         content-length: {length}\r\n{session}\r\n",
    );
    stream.write_all(head.as_bytes()).await.ok()?;
    stream.write_all(body).await.ok()?;
    Some(stream)
}

/// An append that says it brings 21 million empty entries.
fn empty_entries() -> Vec<u8> {
    let mut body = vec![1];
    body.extend([7; 32]);
    body.extend([1, 0]);
    body.extend([0; 32]);
    body.extend([0xc0, 0xde, 0x81, 0x0a]);
    body.resize(limits::APPEND_BODY - 10, 0);
    body
}

/// Every trick at once, from 127.0.0.1, until it is dropped.
async fn flood(to: SocketAddr, sent: &AtomicU32) {
    // What is small gets through, until all is used up that the address may send; of the rest
    // hardly anything does, and it uses that up.
    let small = join_all((0..16).map(|n| pipeline_appends(to, (4, n % 2 == 0), sent)));
    let large = async {
        sleep(Duration::from_secs(2)).await;
        join_all((0..16).map(|n| pipeline_appends(to, (64, n % 2 == 0), sent))).await
    };
    let unfinished = async {
        sleep(Duration::from_secs(2)).await;
        join_all((0..40).map(|_| unfinished_message(to))).await
    };
    let empty = async {
        sleep(Duration::from_secs(3)).await;
        let body = empty_entries();
        loop {
            let posts = (0..2).map(|_| post(to, Append::PATH, body.len(), &body));
            let streams = join_all(posts).await;
            sleep(Duration::from_millis(500)).await;
            drop(streams);
        }
    };
    let never_read = async {
        let mut append = messages(&token(9), Point::START, &[b"begins"]);
        append.opening = Some(vec![5; limits::BESIDE - 100]);
        let body = encode(&append);
        // From another address, as it would use up what this one may send.
        let first = post_from(3, to, Append::PATH, body.len(), &body).await;
        let mut reply = [0; 512];
        let length = first.unwrap().read(&mut reply).await.unwrap();
        assert!(reply[..length].starts_with(b"HTTP/1.1 200"), "the state lies there");
        let part = Part::State;
        let beside = Beside { token: token(9), position: 0, part, admission: Vec::new() };
        let body = encode(&beside);
        loop {
            let posts = (0..60).map(|_| post(to, Beside::PATH, body.len(), &body));
            let streams = join_all(posts).await;
            sleep(Duration::from_secs(10)).await;
            drop(streams);
        }
    };
    let silent = async {
        loop {
            let posts = (0..8).map(|_| post(to, Append::PATH, 2_000_000, &[]));
            let streams = join_all(posts).await;
            sleep(Duration::from_secs(5)).await;
            drop(streams);
        }
    };
    let bogus_sessions = async {
        loop {
            let stream = post(to, "/v1/account/get-vault", 2, &[1, 0]).await;
            if let Some(mut stream) = stream {
                drop(timeout(Duration::from_millis(50), stream.read(&mut [0; 512])).await);
            }
            sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::join!(small, large, unfinished, empty, never_read, silent, bogus_sessions);
}

/// MiB of entries that are stored.
async fn stored(folder: &Path) -> u64 {
    let mut logs = database(folder, LOGS).await;
    let bytes = sqlx::query_scalar::<_, i64>("SELECT sum(length(bytes)) FROM entries");
    u64::try_from(bytes.fetch_one(&mut logs).await.unwrap()).unwrap() / (1024 * 1024)
}

/// `CORNCRAKE_FLOOD_SECONDS` makes it longer, and gives the address what it has by default: 120 for
/// the figures in the documentation.
#[tokio::test(flavor = "multi_thread")]
async fn audit_load_l1_a_flood_from_one_address_is_bounded_and_leaves_others_alone() {
    let seconds = std::env::var("CORNCRAKE_FLOOD_SECONDS");
    let seconds: Option<u64> = seconds.ok().and_then(|seconds| seconds.parse().ok());
    // In a short time an address has to be able to use up what it may send.
    let a_minute = if seconds.is_some() { 64 } else { 24 };
    let seconds = seconds.unwrap_or(8);
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(folder.path(), &["--mib-per-minute", &a_minute.to_string()]);
    let to = process.address;
    let alone = light_sender(to, Duration::from_secs(3)).await;
    let before = disk(folder.path());
    let (mut most, sent) = (0, AtomicU32::new(0));
    let under_flood = {
        let watching = async {
            loop {
                most = most.max(process.memory());
                sleep(Duration::from_millis(50)).await;
            }
        };
        let light = async {
            sleep(Duration::from_secs(1)).await;
            light_sender(to, Duration::from_secs(seconds)).await
        };
        tokio::select! {
            under_flood = light => under_flood,
            () = flood(to, &sent) => panic!("the flood has ended"),
            () = watching => panic!("the watch has ended"),
        }
    };
    let grown = (disk(folder.path()) - before) / (1024 * 1024);
    let stored = stored(folder.path()).await;
    let sent = u64::from(sent.load(Ordering::Relaxed) / 16);
    eprintln!(
        "flood of {seconds} s: memory at most {} MiB, {stored} MiB stored, disk grew by {grown} \
         MiB, of {sent} MiB that were pipelined; p99 of the light sender {under_flood:?}, alone {alone:?}",
        most / 1024,
    );
    assert!(most < 256 * 1024, "memory: {} MiB", most / 1024);
    // A minute's worth at once, and what comes after it.
    let budget = a_minute + a_minute * (seconds + 5) / 60;
    assert!(sent > 2 * budget, "{sent} MiB are no flood");
    assert!(stored > a_minute / 4, "{stored} MiB: hardly anything gets through");
    assert!(stored <= budget, "{stored} MiB of {budget}");
    // What the third address has laid beside, and a write-ahead log.
    assert!(grown <= budget + 16 + 64, "{grown} MiB of {budget}");
}

/// `CORNCRAKE_CONNECTIONS` makes it more of them.
#[tokio::test(flavor = "multi_thread")]
async fn audit_load_l2_a_connection_is_as_small_after_traffic_as_before() {
    let count = std::env::var("CORNCRAKE_CONNECTIONS");
    let count: usize = count.ok().and_then(|count| count.parse().ok()).unwrap_or(500);
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(folder.path(), &["--no-rate-limits"]);
    let to = process.address;
    let mut writer = socket(to, 1).await.unwrap();
    for request in 0..15u8 {
        let entries: Vec<_> = (0..60u8).map(|n| [&[request, n][..], &[3; 1022]].concat()).collect();
        let entries: Vec<&[u8]> = entries.iter().map(Vec::as_slice).collect();
        let append = messages(&token(1), Point::START, &entries);
        writer.say(&ClientFrame::Append { request: 0, append }).await;
        writer.hear().await.unwrap();
    }
    let catch_up = async || {
        let mut socket = socket(to, 1).await.unwrap();
        socket.say(&subscribe(token(1))).await;
        let mut position = 0;
        while position < 900 {
            let Some(ServerFrame::Entries { entries, .. }) = socket.hear().await else {
                panic!("entries");
            };
            assert!(entries.len() <= 16, "{} entries in a frame", entries.len());
            position += entries.len();
        }
        socket
    };
    let mut open = Vec::new();
    for _ in 0..100 {
        open.push(catch_up().await);
    }
    let before = process.memory();
    for _ in 0..count {
        open.push(catch_up().await);
    }
    sleep(Duration::from_millis(500)).await;
    let each = process.memory().saturating_sub(before) * 1024 / count;
    eprintln!("{each} bytes per connection after a catch-up of 900 entries of 1 KiB");
    assert!(each <= 24 * 1024, "{each} bytes");
}

/// Keeps appending to a log until the server hangs up; gives what was acknowledged.
async fn append_until_the_end(to: SocketAddr, log: u8) -> Vec<u64> {
    let mut socket = socket(to, 1).await.unwrap();
    let (mut acknowledged, mut request) = (Vec::new(), 0u32);
    let mut under_way = 0;
    loop {
        while under_way < 32 {
            let append = messages(&token(log), Point::START, &[&request.to_le_bytes()]);
            request += 1;
            under_way += 1;
            let frame = encode(&ClientFrame::Append { request, append });
            if socket.0.send(Message::Binary(frame.into())).await.is_err() {
                break;
            }
        }
        match socket.hear().await {
            Some(ServerFrame::AppendReply {
                result: Ok(AppendReply::Stored { positions, .. }),
                ..
            }) => {
                under_way -= 1;
                acknowledged.extend(positions);
            }
            Some(_) => {}
            None => return acknowledged,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn audit_load_l4_a_stop_answers_all_that_it_stores() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..3 {
        let mut process = Process::start(folder.path(), &["--no-rate-limits"]);
        let logs = (round * 8)..(round * 8 + 8);
        let senders = join_all(logs.clone().map(|log| append_until_the_end(process.address, log)));
        let stop = async {
            sleep(Duration::from_millis(300)).await;
            process.ask_to_stop();
        };
        let (acknowledged, ()) = tokio::join!(senders, stop);
        assert!(process.wait().success());

        let process = Process::start(folder.path(), &["--no-rate-limits"]);
        for (log, acknowledged) in logs.zip(acknowledged) {
            let mut reader = socket(process.address, 1).await.unwrap();
            reader.say(&subscribe(token(log))).await;
            let Some(ServerFrame::Entries { head, .. }) = reader.hear().await else {
                panic!("entries");
            };
            assert!(head > 0);
            assert_eq!(head, acknowledged.len() as u64, "round {round}, log {log}");
        }
    }
}

#[tokio::test]
async fn audit_srv_b12_requests_leave_nothing_in_the_log_unless_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("told");
    let log = std::fs::File::create(&path).unwrap();
    let process = Process::start_telling(folder.path(), &[], None, log.into());
    let mut socket = socket(process.address, 1).await.unwrap();
    let append = messages(&token(1), Point::START, &[b"a"]);
    socket.say(&ClientFrame::Append { request: 0, append }).await;
    socket.hear().await.unwrap();
    for path in ["/v1/open/read", "/v1/account/get-vault", "/nowhere"] {
        let mut stream = post(process.address, path, 1, &[1]).await.unwrap();
        assert!(stream.read(&mut [0; 64]).await.unwrap() > 0);
    }
    drop(process);
    assert_eq!(std::fs::read_to_string(path).unwrap(), "");
}
