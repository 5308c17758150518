//! The command `corncrake` as scripts and people use it.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on should fail"
)]

mod devices;
mod offline;
mod output;
mod place;
mod together;

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Stdio},
};

use place::{Place, code, password, refusal, wait_for};
use serde_json::{Value, json};
use xtask::programs::Server;

#[test]
fn every_command_does_what_it_says() {
    let (place, server) = Place::new();
    place.sign_up(&["ann", "bob", "cem"]);
    assert_eq!(place.ask("ann", &["send", "bob", "hi"], "")["delivery"], "sent");
    let heard = place.ask("bob", &["history", "ann"], "");
    let said = &heard["items"].as_array().unwrap().last().unwrap();
    assert_eq!((&said["from"], &said["text"]), (&json!("ann"), &json!("hi")));
    assert!(place.see("bob", &["history", "ann"]).trim_end().ends_with("ann: hi"));

    place.ask("ann", &["group", "create", "Trip", "bob"], "");
    place.ask("ann", &["group", "add", "#Trip", "cem"], "");
    place.ask("ann", &["group", "rename", "#Trip", "Long trip"], "");
    place.ask("ann", &["group", "role", "#Long trip", "bob", "owner"], "");
    // The first command after he was added: he hears of it in time.
    assert_eq!(place.ask("cem", &["send", "#Long trip", "me too"], "")["delivery"], "sent");
    assert!(place.see("cem", &["chats"]).contains("#Long trip"));
    place.ask("cem", &["group", "leave", "#Long trip"], "");
    place.ask("bob", &["chats"], "");
    place.ask("bob", &["group", "remove", "#Long trip", "ann"], "");
    let chats = place.ask("ann", &["chats"], "");
    let group = chats["chats"].as_array().unwrap().iter().find(|chat| chat["kind"] == "group");
    let group = group.unwrap();
    assert_eq!((&group["standing"], &group["title"]), (&json!("removed"), &json!("Long trip")));
    let kinds: Vec<_> = place.ask("ann", &["history", "#Long trip"], "")["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["kind"].as_str().unwrap().to_owned())
        .collect();
    for kind in ["added", "renamed", "roles_changed", "message", "left", "removed"] {
        assert!(kinds.iter().any(|it| it == kind), "no {kind} in {kinds:?}");
    }

    place.ask("ann phone", &["log-in", "ann"], &password("ann"));
    assert_eq!(place.ask("ann", &["devices"], "")["devices"].as_array().unwrap().len(), 2);
    let digits = |who, whom| place.ask(who, &["verify", whom], "")["digits"].clone();
    assert_eq!(digits("ann phone", "bob"), digits("bob", "ann"));
    assert_ne!(digits("ann", "bob"), digits("ann", "cem"));
    // A picture of colours is for terminals.
    let compared = place.see("ann", &["verify", "bob"]);
    assert!(compared.contains("Compare with bob") && !compared.contains('█'), "{compared}");
    place.ask("ann", &["hide", "bob"], "");
    assert!(!place.see("ann", &["chats"]).contains("bob"));
    server.stop().unwrap();
}

#[test]
fn refusals_have_codes_and_exit_codes() {
    let (place, server) = Place::new();
    place.sign_up(&["ann"]);
    let refused = |who, arguments: &[&str], input: &str| place.refused(who, arguments, input);
    assert_eq!(refused("new", &["chats"], ""), code(1, "no_account"));
    assert_eq!(refused("new", &["sign-up", "ann"], &password("x")), code(1, "username_taken"));
    assert_eq!(refused("new", &["sign-up", "a!"], &password("x")), code(1, "bad_username"));
    assert_eq!(refused("new", &["sign-up", "eve"], "password1\n"), code(1, "weak_password"));
    assert_eq!(refused("new", &["sign-up", "eve"], ""), code(1, "no_password"));
    assert_eq!(refused("new", &["log-in", "ann"], &password("x")), code(1, "wrong_password"));
    assert_eq!(refused("new", &["log-in", "nobody"], &password("x")), code(1, "wrong_password"));
    assert_eq!(refused("ann", &["sign-up", "eve"], &password("x")), code(1, "already_has_account"));
    assert_eq!(refused("ann", &["send", "nobody", "hi"], ""), code(1, "unknown_account"));
    assert_eq!(refused("ann", &["send", "ann", "hi"], ""), code(1, "chat_with_oneself"));
    assert_eq!(refused("ann", &["history", "nobody"], ""), code(1, "unknown_chat"));
    assert_eq!(refused("ann", &["group", "add", "#None", "bob"], ""), code(1, "unknown_chat"));
    let long = "x".repeat(200);
    assert_eq!(refused("ann", &["group", "create", &long, "ann"], ""), code(1, "title_too_long"));
    assert_eq!(place.run("ann", &["fly"], "").status.code(), Some(2));
    assert_eq!(place.run("ann", &["send", "bob"], "").status.code(), Some(2));

    for address in ["ftp://x", &format!("{}/x?y", place.url), &format!("{}#y", place.url)] {
        let bad =
            place.programs.run(&place.home("new"), address, &["sign-up", "eve"], &password("x"));
        assert_eq!(refusal(&bad.unwrap()), code(1, "bad_server_address"));
    }
    assert_eq!(refused("ann", &["verify", "Ann"], ""), code(1, "chat_with_oneself"));
    let other_key = format!("{:064}", 7);
    fs::write(place.home("ann").join("store.key"), other_key).unwrap();
    assert_eq!(refused("ann", &["chats"], ""), code(4, "store_wrong_key"));
    fs::write(place.home("ann").join("store.key"), "short").unwrap();
    assert_eq!(refused("ann", &["chats"], ""), code(4, "home_unusable"));
    server.stop().unwrap();
    assert_eq!(refused("new", &["sign-up", "eve"], &password("x")), code(3, "offline"));
}

#[test]
fn what_is_said_offline_is_queued_and_leaves_later() {
    let (place, server) = Place::new();
    place.sign_up(&["ann", "bob"]);
    place.ask("ann", &["send", "bob", "first"], "");
    let address = server.address().to_owned();
    server.stop().unwrap();
    let queued = place.run("ann", &["send", "bob", "said in the tunnel"], "");
    assert_eq!(queued.status.code(), Some(3));
    let answer: Value = serde_json::from_slice(&queued.stdout).unwrap();
    assert_eq!(answer["delivery"], "queued");
    let offline = place.run("ann", &["history", "bob"], "");
    assert!(String::from_utf8_lossy(&offline.stdout).contains("said in the tunnel"));
    assert!(String::from_utf8_lossy(&offline.stderr).contains("not online"));

    let data = place.folder.path().join("server");
    let server = Server::start(&place.programs, &data, &address, None).unwrap();
    let sent = place.ask("ann", &["history", "bob"], "");
    assert_eq!(sent["items"].as_array().unwrap().last().unwrap()["delivery"], "sent");
    assert!(place.see("bob", &["history", "ann"]).contains("said in the tunnel"));
    server.stop().unwrap();
}

/// Starts the embedding example as ann, with what is typed at it.
fn embedded(place: &Place, input: &str) -> Child {
    let mut command = place.programs.embed();
    command.args([&place.url, "ann", "bob"]).arg(place.home("ann embedded"));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child
}

#[test]
fn audit_house_3_the_readmes_lines_run_and_run_again() {
    let (place, server) = Place::new();
    place.sign_up(&["bob"]);
    for (times, typed) in [(1, password("ann")), (2, String::new())] {
        let mut embedded = embedded(&place, &typed);
        let mut lines = BufReader::new(embedded.stdout.take().unwrap()).lines();
        let is_sent =
            |line: String| line.contains("The corncrake is back.") && line.contains("Sent");
        assert!(lines.by_ref().map_while(Result::ok).any(is_sent));
        assert!(wait_for(|| place.see("bob", &["chats"]).contains("ann")));
        let said =
            || place.see("bob", &["history", "ann"]).matches("ann: The corncrake is back.").count();
        assert!(wait_for(|| said() == times));
        embedded.kill().unwrap();
        embedded.wait().unwrap();
    }
    server.stop().unwrap();
}

#[test]
fn audit_house_3_the_readmes_lines_are_those_of_the_program() {
    let read = |name: &str| fs::read_to_string(xtask::root().join(name)).unwrap();
    let (readme, program) = (read("README.md"), read("examples/embed/src/main.rs"));
    let shown = readme.split("```rust\n").nth(1).unwrap().split("```").next().unwrap();
    let mut program = program.lines().map(str::trim);
    for line in shown.lines().map(str::trim).filter(|line| !line.is_empty()) {
        assert!(program.any(|other| other == line), "the program has no line {line}, or not here");
    }
}

#[test]
fn the_key_and_the_folder_are_their_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let (place, server) = Place::new();
    place.sign_up(&["ann"]);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&place.home("ann")), 0o700);
    assert_eq!(mode(&place.home("ann").join("store.key")), 0o600);
    server.stop().unwrap();
}

/// The server takes 200 questions a second, and 2000 at once.
#[test]
fn audit_issue_7_very_many_unknown_names_are_answered_in_time() {
    let (place, server) = Place::limited();
    place.sign_up(&["ann", "bob", "cem"]);
    let nobody: Vec<String> = (0..5000).map(|number| format!("nobody{number}")).collect();
    let nobody: Vec<&str> = nobody.iter().map(String::as_str).collect();
    let named = |arguments: &[&str]| {
        let answer = place.ask("ann", &[arguments, &nobody, &["--wait", "10"]].concat(), "");
        let left_out = answer["left_out"].as_array().unwrap();
        let of = |code: &str| left_out.iter().filter(|one| one["code"] == code).count();
        let (unknown, late) = (of("unknown_account"), of("rate_limited"));
        // Who was not asked for in time is named as well.
        assert!(unknown > 0 && late > 0, "{unknown} unknown, {late} late");
        assert_eq!(unknown + late, nobody.len());
    };
    named(&["group", "create", "Trip", "bob"]);
    named(&["group", "add", "#Trip", "cem"]);
    for who in ["bob", "cem"] {
        assert!(place.see(who, &["chats"]).contains("#Trip"), "{who}");
    }
    server.stop().unwrap();
}

#[test]
fn audit_srv_b5_who_cannot_be_added_is_left_out_and_named() {
    let (place, server) = Place::new();
    place.sign_up(&["ann", "bob", "cem"]);
    let made = place.ask("ann", &["group", "create", "Trip", "bob", "nobody"], "");
    let left_out = json!([{"name": "nobody", "code": "unknown_account"}]);
    assert_eq!((&made["delivery"], &made["left_out"]), (&json!("sent"), &left_out));
    let mut session =
        xtask::session::Session::start(&place.programs, "cem", &place.home("cem"), &place.url)
            .unwrap();
    let cem = session.ask(json!({"do": "account"})).unwrap()["account"].clone();
    session.close().unwrap();
    let cem = cem.as_str().unwrap();
    let mut command = place.programs.corncrake(&place.home("ann"), &place.url);
    let said = command.args(["group", "add", "#Trip", cem, "no\u{1b}body"]).output().unwrap();
    let said = String::from_utf8(said.stderr).unwrap();
    assert!(said.contains("left out: no") && !said.contains('\u{1b}'), "{said}");
    assert!(place.see("cem", &["chats"]).contains("#Trip"));
    let removed = place.refused("ann", &["group", "remove", "#Trip", "ann", "nobody"], "");
    assert_eq!(removed.0, 1);
    server.stop().unwrap();
}
