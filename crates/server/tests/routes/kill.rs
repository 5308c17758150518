//! The real binary, killed in the middle of its work.

use std::{collections::HashMap, net::SocketAddr, process::Command, time::Duration};

use corncrake_wire::{
    ClientFrame, OPEN_SOCKET, ServerFrame, encode,
    log::{AppendReply, LogEntry, Point},
    open::By,
};
use futures_util::{SinkExt, future::join_all};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    process::Process,
    support::{
        Api, Socket, at, claim, commit, deposit, http, log_in, look_up, messages, random, sign_up,
        subscribe, token,
    },
};

const UNLIMITED: &[&str] = &["--no-rate-limits"];

/// Appends to its own log until the server is gone. What was acknowledged goes into `acked`; what
/// was on its way comes back.
async fn send(address: SocketAddr, log: u8, sent: &mut u64, acked: &mut Vec<(u64, Vec<u8>)>) {
    let token = token(log);
    let mut socket = Socket::connect(address, OPEN_SOCKET).await;
    let mut newest_commit = acked
        .iter()
        .rfind(|(_, body)| body[8] == 1)
        .map_or(Point::START, |(position, body)| at(*position, body));
    loop {
        // What stood unanswered at the last crash is sent again, byte for byte.
        let number = *sent;
        let is_commit = number.is_multiple_of(23);
        let body = [&number.to_le_bytes()[..], &[is_commit.into()], &[log; 400]].concat();
        let append = if is_commit {
            commit(&token, newest_commit, &body)
        } else {
            messages(&token, newest_commit, &[&body])
        };
        let frame = encode(&ClientFrame::Append { request: 1, append });
        if socket.0.send(Message::Binary(frame.into())).await.is_err() {
            return;
        }
        match socket.hear().await {
            Some(ServerFrame::AppendReply { result: Ok(reply), .. }) => match reply {
                AppendReply::Stored { positions, .. } => {
                    if is_commit {
                        newest_commit = at(positions[0], &body);
                    }
                    acked.push((positions[0], body));
                    *sent += 1;
                }
                // Our own commit was stored, and its answer lost.
                AppendReply::Conflict { newest_commit: newest, .. } => newest_commit = newest,
            },
            None => return,
            other => panic!("{other:?}"),
        }
    }
}

async fn read_all(address: SocketAddr, log: u8) -> Vec<LogEntry> {
    let mut socket = Socket::connect(address, OPEN_SOCKET).await;
    socket.say(&subscribe(token(log))).await;
    let mut all = Vec::new();
    loop {
        let Some(ServerFrame::Entries { entries, head, .. }) = socket.hear().await else {
            panic!("entries");
        };
        all.extend(entries);
        if all.len() as u64 >= head {
            return all;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_when_the_server_is_killed() {
    const LOGS: u8 = 12;
    let folder = tempfile::tempdir().unwrap();
    let mut acked: Vec<_> = (0..LOGS).map(|_| Vec::new()).collect();
    let mut sent = vec![0u64; LOGS.into()];
    for round in 0..8 {
        let mut process = Process::start(folder.path(), UNLIMITED);
        let address = process.address;
        let senders = (0..LOGS).zip(&mut sent).zip(&mut acked);
        let senders = join_all(senders.map(|((log, sent), acked)| send(address, log, sent, acked)));
        let wait = 100 + u64::from(random()[0]);
        let kill = async {
            tokio::time::sleep(Duration::from_millis(wait)).await;
            process.kill();
        };
        tokio::join!(senders, kill);
        process.wait();

        let process = Process::start(folder.path(), UNLIMITED);
        for (log, acked) in (0..LOGS).zip(&acked) {
            let all = read_all(process.address, log).await;
            let by_position: HashMap<_, _> = all.iter().map(|e| (e.position, &e.bytes)).collect();
            for (position, body) in acked {
                assert_eq!(by_position.get(position), Some(&body), "round {round}, log {log}");
            }
            assert!((1..).zip(&all).all(|(position, entry)| entry.position == position));
            let mut numbers: Vec<_> = all.iter().map(|entry| &entry.bytes[..8]).collect();
            numbers.dedup();
            assert_eq!(numbers.len(), all.len(), "nothing stands twice");
            assert!(all.len() <= acked.len() + 1, "what is stored was asked for");
        }
    }
    assert!(acked.iter().map(Vec::len).sum::<usize>() > 200);
}

#[cfg(unix)]
#[tokio::test]
async fn the_binary_starts_without_arguments_and_stops_when_asked() {
    let folder = tempfile::tempdir().unwrap();
    let help = Command::new(env!("CARGO_BIN_EXE_corncrake-server")).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    assert!(
        help.contains("[default: 127.0.0.1:8787]") && help.contains("[default: corncrake-data]")
    );

    let mut process = Process::start(&folder.path().join("made/by/the/server"), UNLIMITED);
    let info = format!("http://{}/v1/info", process.address);
    assert!(http().get(info).send().await.unwrap().status().is_success());
    let socket = Socket::connect(process.address, OPEN_SOCKET).await;
    // Two servers on one folder would order one log twice.
    let second = Command::new(env!("CARGO_BIN_EXE_corncrake-server"))
        .args(["--listen", "127.0.0.1:0", "--data"])
        .arg(folder.path().join("made/by/the/server"))
        .output()
        .unwrap();
    assert!(!second.status.success());
    process.ask_to_stop();
    let status = process.wait();
    assert!(status.success(), "{status}");
    drop(socket);
    use std::os::unix::fs::PermissionsExt;
    let seed = folder.path().join("made/by/the/server/opaque-seed");
    assert_eq!(std::fs::metadata(seed).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn the_servers_log_names_nobody_and_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let log = std::fs::File::create(&path).unwrap();
    let process = Process::start_telling(folder.path(), UNLIMITED, Some("trace"), log.into());
    let api = Api::at(process.address, folder);
    let bob = sign_up(&api, "bobmarker", b"password marker").await;
    log_in(&api, "bobmarker", b"password marker").await;
    let token = token(1);
    api.append(&messages(&token, Point::START, &[b"bytes marker"])).await.unwrap();
    api.append(&messages(&token, Point::START, &[])).await.unwrap_err();
    api.call(&deposit(bob.device.inbox, b"notice marker")).await.unwrap();
    api.call(&look_up(By::Name("bobmarker".to_owned()))).await.unwrap();
    api.call(&claim(bob.account)).await.unwrap();
    let mut socket = Socket::connect(process.address, OPEN_SOCKET).await;
    socket.say(&subscribe(token.clone())).await;
    socket.hear().await;
    drop(process);
    let told = std::fs::read_to_string(path).unwrap();
    assert!(told.contains("/v1/open/append") && told.contains("bad_batch"), "{told}");
    let hex = |bytes: &[u8]| hex::encode(bytes);
    let secrets = [
        "marker".to_owned(),
        hex(b"marker"),
        hex(&bob.account.0),
        hex(&bob.device.id.0),
        hex(&bob.device.inbox.0),
        hex(bob.session.token.expose_bytes()),
        hex(&bob.session.token.digest()),
        hex(token.expose_bytes()),
        hex(&token.log_id().0),
    ];
    let lower = told.to_lowercase();
    for secret in secrets {
        assert!(!lower.contains(secret.get(..16).unwrap_or(&secret)), "{secret}");
    }
    let debug = format!("{:?}", &bob.account.0[..8]);
    assert!(!told.contains(debug.trim_matches(['[', ']'])));
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn audit_issue_7_bf10_a_server_whose_files_are_gone_or_others_stores_nothing_and_ends() {
    for what in ["folder", "files", "lock"] {
        let folder = tempfile::TempDir::new().unwrap();
        let data = folder.path().join("data");
        let mut process = Process::start(&data, UNLIMITED);
        let api = Api::at(process.address, tempfile::TempDir::new().unwrap());
        api.append(&commit(&token(1), Point::START, b"founding")).await.unwrap();
        match what {
            // Another server could begin beside this one.
            "lock" => std::fs::remove_file(data.join("lock")).unwrap(),
            _ => std::fs::rename(&data, folder.path().join("elsewhere")).unwrap(),
        }
        if what == "files" {
            std::fs::create_dir(&data).unwrap();
            for name in ["accounts.db", "logs.db"] {
                std::fs::write(data.join(name), b"").unwrap();
            }
        }
        let later = messages(&token(1), at(1, b"founding"), &[b"to be lost"]);
        assert!(api.append(&later).await.is_err(), "nobody would find it");
        assert!(!process.wait().success());
    }
}
