//! What people type stands nowhere outside their own heads and screens.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

use std::{
    fs,
    io::Write,
    net::TcpStream,
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use serde_json::json;
use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use tempfile::TempDir;
use xtask::{
    markers::{find, find_in_folder},
    programs::{Programs, Server},
    proxy::Proxy,
    session::Session,
};

const NAMES: [&str; 3] = ["marker-name-ann", "marker-name-bob", "marker-name-cem"];
const PASSWORDS: [&str; 3] = [
    "marker-password wet meadow ann",
    "marker-password wet meadow bob",
    "marker-password wet meadow cem",
];
const WRONG_PASSWORD: &str = "marker-wrong-password seven herons";
const TITLES: [&str; 2] = ["marker-first-title", "marker-second-title"];
const TEXTS: [&str; 4] = [
    "marker-text-in-a-chat-of-two",
    "marker-text-of-an-answer",
    "marker-text-in-a-group",
    "marker-text-after-a-removal",
];

/// Everything typed but the usernames, which a directory has to know.
fn secrets() -> impl Iterator<Item = &'static str> {
    PASSWORDS.into_iter().chain([WRONG_PASSWORD]).chain(TITLES).chain(TEXTS)
}

/// What has been acknowledged to one may still be on its way to another.
fn wait_until(mut holds: impl FnMut() -> bool) {
    let come = (0..600).any(|_| {
        let holds = holds();
        if !holds {
            thread::sleep(Duration::from_millis(100));
        }
        holds
    });
    assert!(come, "it does not come in a minute");
}

/// Types every marker into its field, through a server that clients reach by `url`.
fn live(programs: &Programs, folder: &Path, url: &str) {
    let mut sessions = Vec::new();
    for (name, password) in NAMES.into_iter().zip(PASSWORDS) {
        let home = folder.join(name);
        programs.ask(&home, url, &["sign-up", name], &format!("{password}\n")).unwrap();
        sessions.push(Session::start(programs, name, &home, url).unwrap());
    }
    let wrong = programs.run(&folder.join("nobody"), url, &["log-in", NAMES[0]], WRONG_PASSWORD);
    assert_eq!(wrong.unwrap().status.code(), Some(1));
    let second = folder.join("second");
    programs.ask(&second, url, &["log-in", NAMES[0]], &format!("{}\n", PASSWORDS[0])).unwrap();

    let [ann, bob, cem] = sessions.as_mut_slice() else {
        return;
    };
    let group = format!("#{}", TITLES[0]);
    let renamed = format!("#{}", TITLES[1]);
    let say = |session: &mut Session, chat: &str, text: &str| {
        session.ask(json!({"do": "send", "chat": chat, "text": text, "wait": 60})).unwrap();
    };
    say(ann, NAMES[1], TEXTS[0]);
    wait_until(|| bob.history(NAMES[0]).is_ok());
    say(bob, NAMES[0], TEXTS[1]);
    let names = [NAMES[1], NAMES[2]];
    ann.ask(json!({"do": "create_group", "title": TITLES[0], "names": names})).unwrap();
    wait_until(|| cem.history(&group).is_ok());
    say(cem, &group, TEXTS[2]);
    ann.ask(json!({"do": "rename", "chat": group, "title": TITLES[1]})).unwrap();
    ann.ask(json!({"do": "verify", "name": NAMES[1]})).unwrap();
    ann.ask(json!({"do": "remove", "chat": renamed, "names": [NAMES[2]]})).unwrap();
    wait_until(|| bob.history(&renamed).is_ok());
    say(bob, &renamed, TEXTS[3]);
    wait_until(|| ann.said(&renamed).unwrap().iter().any(|(_, text)| text == TEXTS[3]));
    for session in sessions {
        session.close().unwrap();
    }
}

#[test]
fn what_people_type_is_found_nowhere_and_a_planted_marker_is() {
    let programs = Programs::build().unwrap();
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("server");
    let target = Arc::new(Mutex::new(String::new()));
    let proxy = Proxy::start({
        let target = Arc::clone(&target);
        move || target.lock().unwrap().clone()
    })
    .unwrap();
    let server = Server::start(&programs, &data, "127.0.0.1:0", Some(&proxy.url())).unwrap();
    server.address().clone_into(&mut target.lock().unwrap());
    live(&programs, &folder.path().join("people"), &proxy.url());

    let traffic = proxy.recorded();
    let log = fs::read(Server::log_of(&data)).unwrap();
    for wal in ["accounts.db-wal", "logs.db-wal"] {
        assert!(data.join(wal).exists(), "the write-ahead logs are searched too");
    }
    assert!(traffic.len() > 10_000 && !log.is_empty());
    for marker in secrets() {
        assert!(find(marker, &traffic).is_empty(), "{marker} was sent");
        assert_eq!(find_in_folder(marker, &data).unwrap(), [""; 0], "{marker} was stored");
        let at_home = find_in_folder(marker, &folder.path().join("people")).unwrap();
        assert_eq!(at_home, [""; 0], "{marker} lies open on its owner's disk");
    }
    for name in NAMES {
        assert!(find(name, &log).is_empty(), "the server's own log names {name}");
        assert!(!find_in_folder(name, &data).unwrap().is_empty(), "the directory knows {name}");
    }
    planted(&proxy, &data);
    server.stop().unwrap();
}

/// The search finds a marker in a database, in its write-ahead log and in the traffic.
fn planted(proxy: &Proxy, data: &Path) {
    let marker = "planted-marker-of-the-test";
    let copy = TempDir::new().unwrap();
    let status = Command::new("cp").arg("-r").arg(data).arg(copy.path()).status().unwrap();
    assert!(status.success());
    let copied = copy.path().join("server");
    let options = SqliteConnectOptions::new().filename(copied.join("logs.db"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut database = SqliteConnection::connect_with(&options).await.unwrap();
        sqlx::raw_sql("CREATE TABLE planted (bytes BLOB)").execute(&mut database).await.unwrap();
        let insert = sqlx::query("INSERT INTO planted VALUES (?)").bind(marker.as_bytes());
        insert.execute(&mut database).await.unwrap();
        let found = find_in_folder(marker, &copied).unwrap();
        assert!(found.contains(&"logs.db-wal (text)".to_owned()), "{found:?}");
        database.close().await.unwrap();
    });
    let found = find_in_folder(marker, &copied).unwrap();
    assert!(found.contains(&"logs.db (text)".to_owned()), "{found:?}");

    let address = proxy.url().replace("http://", "");
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET /{marker} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    std::io::copy(&mut stream, &mut std::io::sink()).unwrap();
    assert_eq!(find(marker, &proxy.recorded()), ["text"]);
}
