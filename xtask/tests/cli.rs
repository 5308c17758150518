//! The command `corncrake` as scripts and people use it.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on should fail"
)]

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Output, Stdio},
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;
use xtask::{
    programs::{Programs, Server},
    session::Session,
};

/// A server and people who use it.
struct Place {
    programs: Programs,
    folder: TempDir,
    url: String,
}

impl Place {
    fn new() -> (Self, Server) {
        let programs = Programs::build().unwrap();
        let folder = TempDir::new().unwrap();
        let server = Server::start(&programs, &folder.path().join("server"), "127.0.0.1:0", None);
        let server = server.unwrap();
        let url = server.url();
        (Self { programs, folder, url }, server)
    }

    fn home(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn sign_up(&self, names: &[&str]) {
        for name in names {
            let answer = self.ask(name, &["sign-up", name], &password(name));
            assert_eq!(answer["name"], *name);
            assert_eq!(answer["settled"], true);
        }
    }

    fn ask(&self, who: &str, arguments: &[&str], input: &str) -> Value {
        self.programs.ask(&self.home(who), &self.url, arguments, input).unwrap()
    }

    fn run(&self, who: &str, arguments: &[&str], input: &str) -> Output {
        self.programs.run(&self.home(who), &self.url, arguments, input).unwrap()
    }

    /// What a person sees who does without `--json`.
    fn see(&self, who: &str, arguments: &[&str]) -> String {
        let mut command = self.programs.corncrake(&self.home(who), &self.url);
        let output = command.args(arguments).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The exit code and the stable code of something that does not go well.
    fn refused(&self, who: &str, arguments: &[&str], input: &str) -> (i32, String) {
        refusal(&self.run(who, arguments, input))
    }
}

fn password(name: &str) -> String {
    format!("seven herons of {name} over the wet meadow\n")
}

fn refusal(output: &Output) -> (i32, String) {
    let error: Value = serde_json::from_slice(&output.stderr).unwrap_or_default();
    let code = error["error"]["code"].as_str().unwrap_or_default().to_owned();
    assert!(error["error"]["message"].as_str().is_some_and(|message| !message.is_empty()));
    (output.status.code().unwrap(), code)
}

fn code(exit: i32, code: &str) -> (i32, String) {
    (exit, code.to_owned())
}

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
    assert!(place.see("ann", &["verify", "bob"]).contains('█'));
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

    let bad =
        place.programs.run(&place.home("new"), "ftp://x", &["sign-up", "eve"], &password("x"));
    assert_eq!(refusal(&bad.unwrap()), code(1, "bad_server_address"));
    let session = Session::start(&place.programs, "ann", &place.home("ann"), &place.url).unwrap();
    thread::sleep(Duration::from_secs(1));
    assert_eq!(refused("ann", &["chats"], ""), code(4, "store_in_use"));
    session.close().unwrap();
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

#[test]
fn the_readmes_ten_lines_run() {
    let (place, server) = Place::new();
    place.sign_up(&["bob"]);
    let mut command = place.programs.embed();
    command.args([&place.url, "ann", password("ann").trim(), "bob"]).arg(place.home("ann.db"));
    let mut embedded = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(embedded.stdout.take().unwrap()).lines();
    let is_sent = |line: String| line.contains("The corncrake is back.") && line.contains("Sent");
    assert!(lines.by_ref().map_while(Result::ok).any(is_sent));
    assert!(wait_for(|| place.see("bob", &["chats"]).contains("ann")));
    assert!(place.see("bob", &["history", "ann"]).contains("ann: The corncrake is back."));
    embedded.kill().unwrap();
    embedded.wait().unwrap();
    server.stop().unwrap();
}

fn wait_for(mut holds: impl FnMut() -> bool) -> bool {
    (0..100).any(|_| {
        thread::sleep(Duration::from_millis(100));
        holds()
    })
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
