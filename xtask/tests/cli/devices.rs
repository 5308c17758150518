//! An account with more devices than it may have.

use serde_json::{Value, json};
use sqlx::{Connection as _, SqliteConnection};
use xtask::{programs::Server, session::Session};

use crate::place::{Place, code, password, wait_for};

/// How often all look at their chats until nothing is left to be done.
const ROUNDS: usize = 50;

fn device(place: &Place, home: &str) -> String {
    let mut session = Session::start(&place.programs, home, &place.home(home), &place.url).unwrap();
    let account = session.ask(serde_json::json!({"do": "account"})).unwrap();
    session.close().unwrap();
    account["device"].as_str().unwrap().to_owned()
}

fn standings(place: &Place, home: &str) -> Vec<Value> {
    let answer = place.run(home, &["chats"], "");
    let answer: Value = serde_json::from_slice(&answer.stdout).unwrap();
    answer["chats"].as_array().unwrap().iter().map(|chat| chat["standing"].clone()).collect()
}

/// All look at their chats until those who go are out of both and the others are in them.
fn until_settled(place: &Place, (gone, good): (&[String], &[String])) {
    let all_are = |homes: &[String], standing: &str| {
        let is = |home: &String| standings(place, home) == [standing, standing];
        homes.iter().all(is)
    };
    let settled = (0..ROUNDS).any(|_| {
        place.ask("bob", &["chats"], "");
        all_are(gone, "removed") && all_are(good, "member")
    });
    assert!(settled);
}

fn texts(place: &Place, home: &str, chat: &str) -> String {
    let output = place.run(home, &["history", chat], "");
    String::from_utf8(output.stdout).unwrap()
}

/// What bob says is read by the devices of the account, and by no other.
fn check(place: &Place, word: &str, (gone, good): (&[String], &[String])) {
    until_settled(place, (gone, good));
    for (to, chat) in [("ann", "bob"), ("#Trip", "#Trip")] {
        assert_eq!(place.ask("bob", &["send", to, word], "")["delivery"], "sent");
        for home in good {
            assert!(texts(place, home, chat).contains(word), "{home} reads {word} in {chat}");
        }
        for home in gone {
            assert!(!texts(place, home, chat).contains(word), "{home} reads nothing in {chat}");
        }
    }
}

#[test]
fn audit_prog_h1_after_twelve_log_ins_and_a_removal_the_right_devices_are_in_every_chat() {
    let (place, server) = Place::new();
    place.sign_up(&["ann", "bob"]);
    place.ask("ann", &["send", "bob", "first"], "");
    place.ask("ann", &["group", "create", "Trip", "bob"], "");
    let mut good = vec!["ann".to_owned()];
    for number in 2..=10 {
        let home = format!("ann {number}");
        place.ask(&home, &["log-in", "ann"], &password("ann"));
        good.push(home);
    }
    let full = place.run("ann 11", &["log-in", "ann"], &password("ann"));
    assert_eq!(crate::place::refusal(&full), code(1, "too_many_devices"));
    let error: Value = serde_json::from_slice(&full.stderr).unwrap();
    let listed = error["error"]["devices"].as_array().unwrap();
    assert_eq!(listed.len(), 10);
    assert_eq!(listed[0]["device"], device(&place, "ann"), "the oldest is the first");
    let mut command = place.programs.corncrake(&place.home("ann 11"), &place.url);
    let typed = place.folder.path().join("typed");
    std::fs::write(&typed, password("ann")).unwrap();
    let typed = std::fs::File::open(&typed).unwrap();
    let shown = command.args(["log-in", "ann"]).stdin(typed).output().unwrap();
    let shown = String::from_utf8(shown.stderr).unwrap();
    assert!(shown.contains(&device(&place, "ann 5")), "{shown}");
    let bad = place.refused("ann 11", &["log-in", "ann", "--drop", "x"], &password("ann"));
    assert_eq!(bad, code(1, "unknown_device"));
    check(&place, "before", (&[], &good));

    let mut gone = Vec::new();
    for (number, drop) in [(11, "ann 5"), (12, "ann")] {
        let home = format!("ann {number}");
        let id = device(&place, drop);
        // As much of the id as tells it from the others.
        place.ask(&home, &["log-in", "ann", "--drop", &id[..12]], &password("ann"));
        good.retain(|home| home != drop);
        good.push(home);
        gone.push(drop.to_owned());
        check(&place, &format!("after {number}"), (&gone, &good));
    }
    let left = place.ask("ann 12", &["devices"], "")["devices"].as_array().unwrap().len();
    assert_eq!(left, 10);

    let id = device(&place, "ann 7");
    let remove = ["devices", "remove", &id[..12]];
    assert_eq!(place.refused("ann 9", &remove, &password("bob")), code(1, "wrong_password"));
    assert_eq!(place.refused("ann 7", &remove, &password("ann")), code(1, "this_device"));
    assert_eq!(place.ask("ann 9", &remove, &password("ann"))["device"], id);
    assert_eq!(place.refused("ann 9", &remove, &password("ann")), code(1, "unknown_device"));
    good.retain(|home| home != "ann 7");
    gone.push("ann 7".to_owned());
    check(&place, "after the removal", (&gone, &good));
    server.stop().unwrap();
}

/// Empties all inboxes of a server that is stopped.
fn lose_letters(place: &Place) {
    let path = place.folder.path().join("server").join("accounts.db");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let url = format!("sqlite://{}", path.display());
        let mut database = SqliteConnection::connect(&url).await.unwrap();
        let lost = sqlx::query("DELETE FROM notices").execute(&mut database).await.unwrap();
        assert!(lost.rows_affected() > 0);
        database.close().await.unwrap();
    });
}

#[test]
fn audit_srv_b7_a_device_that_lacks_the_keys_says_what_to_do() {
    let (place, server) = Place::new();
    place.sign_up(&["ann", "bob"]);
    place.ask("ann", &["send", "bob", "first"], "");
    for home in ["ann 2", "ann 3"] {
        place.ask(home, &["log-in", "ann"], &password("ann"));
    }
    let shown = place.ask("ann 2", &["devices"], "");
    assert_eq!(shown["waits_for_keys"], false, "{shown}");
    let gone = device(&place, "ann 3");
    place.ask("ann", &["devices", "remove", &gone], &password("ann"));
    // What the first device sent to the second one is lost.
    server.stop().unwrap();
    lose_letters(&place);
    let address = place.url.strip_prefix("http://").unwrap();
    let server =
        Server::start(&place.programs, &place.folder.path().join("server"), address, None).unwrap();
    let waits = |arguments: &[&str]| {
        let shown =
            place.programs.corncrake(&place.home("ann 2"), &place.url).args(arguments).output();
        let shown = String::from_utf8(shown.unwrap().stderr).unwrap();
        shown.contains("Bring another device of this account online")
    };
    let told = wait_for(|| place.ask("ann 2", &["chats"], "")["waits_for_keys"] == true);
    assert!(told && waits(&["devices"]) && waits(&["chats"]));
    let asked = |what: &str| {
        let home = place.home("ann 2");
        let mut session = Session::start(&place.programs, "ann 2", &home, &place.url).unwrap();
        let answer = session.ask(json!({"do": what})).unwrap()["waits_for_keys"].clone();
        session.close().unwrap();
        answer
    };
    assert!(["account", "devices", "chats"].iter().all(|what| asked(what) == true));
    // One that logs in has the keys by the password, and sends them.
    place.ask("ann 4", &["log-in", "ann"], &password("ann"));
    assert!(wait_for(|| asked("account") == false));
    assert!(!waits(&["devices"]));
    server.stop().unwrap();
}
