//! What commands say when the server is away, or when something waits.

use std::time::{Duration, Instant};

use serde_json::Value;
use xtask::{programs::Server, session::Session};

use crate::place::{Place, code, password, refusal};

/// What commands are told to wait, where they should not have to, and what tells them apart from
/// those that do, on the slowest machine.
const WAIT: &str = "--wait=900";
const PATIENCE: Duration = Duration::from_secs(600);

#[test]
fn audit_prog_h8_a_group_is_founded_and_everybody_invited_when_it_is_said() {
    let (place, server) = Place::new();
    place.sign_up(&["ann", "bob", "cem"]);
    let made = place.ask("ann", &["group", "create", "Trip", "bob", "cem"], "");
    assert_eq!(made["delivery"], "sent");
    for who in ["bob", "cem"] {
        assert!(place.see(who, &["chats"]).contains("#Trip"), "{who}");
    }
    place.ask("ann", &["group", "leave", "#Trip"], "");
    assert_eq!(place.ask("bob", &["send", "#Trip", "still here"], "")["delivery"], "sent");
    server.stop().unwrap();
}

#[test]
fn audit_prog_m1_changes_without_a_server_are_queued_and_happen_later() {
    let (place, server) = Place::new();
    place.sign_up(&["ann", "bob", "cem"]);
    place.ask("ann", &["group", "create", "Trip", "bob", "cem"], "");
    let address = server.address().to_owned();
    server.stop().unwrap();
    let changes: [&[&str]; 4] = [
        &["group", "rename", "#Trip", "Long trip"],
        &["group", "role", "#Trip", "bob", "owner"],
        &["group", "remove", "#Trip", "cem"],
        &["group", "leave", "#Trip"],
    ];
    for change in changes {
        let output = place.run("ann", change, "");
        assert_eq!(output.status.code(), Some(3), "{change:?}: {output:?}");
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(
            (&answer["delivery"], &answer["connection"]),
            (&"queued".into(), &"offline".into())
        );
    }
    let data = place.folder.path().join("server");
    let server = Server::start(&place.programs, &data, &address, None).unwrap();
    let mut session =
        Session::start(&place.programs, "ann", &place.home("ann"), &place.url).unwrap();
    session.settle().unwrap();
    session.close().unwrap();
    let chats = place.ask("bob", &["chats"], "");
    let members = chats["chats"][0]["members"].as_array().unwrap();
    assert_eq!(chats["chats"][0]["title"], "Long trip");
    assert_eq!(members.len(), 1, "{chats}");
    server.stop().unwrap();
}

#[test]
fn audit_prog_m3_nobody_is_called_offline_who_is_not_and_nothing_owed_takes_time() {
    let (place, server) = Place::new();
    place.sign_up(&["ann", "bob", "cem", "dan"]);
    place.ask("ann", &["group", "create", "Trip", "bob", "cem"], "");
    place.ask("ann", &["group", "remove", "#Trip", "cem"], "");
    // Nobody is there to confirm the removal.
    let start = Instant::now();
    let added = place.run("ann", &["group", "add", "#Trip", "dan", WAIT], "");
    assert_eq!(added.status.code(), Some(3), "{added:?}");
    let answer: Value = serde_json::from_slice(&added.stdout).unwrap();
    assert_eq!(answer["waits_for"], "removal");
    for command in [["chats"].as_slice(), &["history", "#Trip"]] {
        let output = place.run("ann", command, "");
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(answer["read"], "head");
    }
    assert!(place.see("ann", &["chats"]).contains("  adding dan"));
    assert!(start.elapsed() < PATIENCE);
    assert_eq!(place.ask("ann", &["send", "#Trip", "meanwhile"], "")["delivery"], "sent");
    place.ask("bob", &["chats"], "");
    assert!(
        place.see("dan", &["chats"]).contains("#Trip") || {
            place.ask("ann", &["chats"], "");
            place.see("dan", &["chats"]).contains("#Trip")
        }
    );
    server.stop().unwrap();
}

#[test]
fn a_proxy_of_the_environment_is_not_asked_for_this_machine() {
    let (place, server) = Place::new();
    place.sign_up(&["ann"]);
    let mut command = place.programs.corncrake(&place.home("ann"), &place.url);
    command.args(["--json", "chats"]).env("http_proxy", "http://127.0.0.1:1");
    let output = command.env("ALL_PROXY", "http://127.0.0.1:1").output().unwrap();
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["read"], "head");
    server.stop().unwrap();
}

#[test]
fn a_text_comes_from_standard_input_and_waiting_may_be_left_out() {
    let (place, server) = Place::new();
    place.sign_up(&["ann", "bob"]);
    place.ask("ann", &["send", "bob", "-"], "one\ntwo\n");
    assert!(place.see("bob", &["history", "ann"]).contains("ann: one\n      | two\n"));
    let output = place.run("ann", &["send", "bob", "later", "--wait", "0"], "");
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &answer["delivery"]), (Some(0), &"queued".into()));
    server.stop().unwrap();
}

#[test]
fn audit_prog_m3_a_device_that_was_removed_hears_it_from_every_command() {
    let (place, server) = Place::new();
    place.sign_up(&["ann", "bob"]);
    place.ask("ann", &["send", "bob", "first"], "");
    place.ask("ann 2", &["log-in", "ann"], &password("ann"));
    let devices = place.ask("ann", &["devices"], "");
    let devices = devices["devices"].as_array().unwrap().iter();
    let this = devices.clone().find(|device| device["this"] == true).unwrap();
    let id = this["device"].as_str().unwrap();
    place.ask("ann 3", &["log-in", "ann", "--drop", id], &password("ann"));
    let start = Instant::now();
    let signed_out = |arguments: &[&str]| {
        assert_eq!(place.refused("ann", arguments, ""), code(1, "signed_out"), "{arguments:?}");
    };
    signed_out(&["send", "bob", "is anybody there?", WAIT]);
    signed_out(&["devices"]);
    signed_out(&["verify", "bob"]);
    signed_out(&["group", "create", "Trip", "bob", WAIT]);
    assert!(start.elapsed() < PATIENCE);
    for command in [["chats"].as_slice(), &["history", "bob"]] {
        let output = place.run("ann", command, "");
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        let items = answer["items"].as_array().into_iter().flatten();
        assert!(items.into_iter().all(|item| item["delivery"] != "queued"), "{answer}");
        assert_eq!(answer["read"], "signed_out");
        assert!(String::from_utf8_lossy(&output.stderr).contains("no longer knows this device"));
    }
    let mut session =
        Session::start(&place.programs, "ann", &place.home("ann"), &place.url).unwrap();
    let refused = session.try_ask(serde_json::json!({"do": "settle", "wait": 20})).unwrap();
    assert_eq!(refused.unwrap_err()["code"], "signed_out");
    session.close().unwrap();
    server.stop().unwrap();
}

#[test]
fn a_device_that_was_removed_says_nothing_to_anybody_new() {
    let (place, server) = Place::new();
    place.sign_up(&["ann", "cem"]);
    place.ask("ann 2", &["log-in", "ann"], &password("ann"));
    let devices = place.ask("ann", &["devices"], "");
    let devices = devices["devices"].as_array().unwrap().iter();
    let this = devices.clone().find(|device| device["this"] == true).unwrap();
    let id = this["device"].as_str().unwrap();
    place.ask("ann 2", &["devices", "remove", id], &password("ann"));
    let refused = place.refused("ann", &["send", "cem", "it is me"], "");
    assert_eq!(refused, code(1, "signed_out"));
    assert_eq!(place.ask("cem", &["chats"], "")["chats"], serde_json::json!([]));
    server.stop().unwrap();
}

#[test]
fn a_server_that_takes_the_connection_and_says_nothing_is_given_up() {
    let (place, server) = Place::new();
    let deaf = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", deaf.local_addr().unwrap());
    for command in ["sign-up", "log-in"] {
        let start = Instant::now();
        let arguments = [command, "ann", "--wait", "2"];
        let output = place.programs.run(&place.home("ann"), &url, &arguments, &password("ann"));
        assert_eq!(refusal(&output.unwrap()), code(3, "offline"));
        assert!(start.elapsed() < PATIENCE);
    }
    server.stop().unwrap();
}

#[test]
fn audit_issue_7_a_short_wait_tells_that_the_server_is_away() {
    let (place, server) = Place::new();
    place.sign_up(&["ann", "bob"]);
    place.ask("ann", &["send", "bob", "first"], "");
    let mut session =
        Session::start(&place.programs, "ann", &place.home("ann"), &place.url).unwrap();
    session.try_ask(serde_json::json!({"do": "settle", "wait": 20})).unwrap().unwrap();
    server.stop().unwrap();
    let send = serde_json::json!({"do": "send", "chat": "bob", "text": "later", "wait": 1});
    let answer = session.try_ask(send).unwrap().unwrap();
    assert_eq!((&answer["delivery"], &answer["connection"]), (&"queued".into(), &"offline".into()));
    session.close().unwrap();
}
