//! Backups of a running server, and what starts on them.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use corncrake_server::{Config, Server};
use corncrake_wire::{account::UploadPackages, log::Point};
use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use tempfile::TempDir;

use crate::{
    disk::Disk,
    support::{
        ACCOUNTS, Api, LOGS, claim, commit, database, log_in, messages, one_time, sign_up, token,
    },
};

fn run(data: &Path, arguments: &[&str]) -> bool {
    let status = Command::new(env!("CARGO_BIN_EXE_corncrake-server"))
        .args(arguments)
        .arg("--data")
        .arg(data)
        .env("RUST_LOG", "off")
        .status();
    status.unwrap().success()
}

async fn instances(data: &Path) -> [Vec<u8>; 2] {
    let mut names = Vec::new();
    for plane in [ACCOUNTS, LOGS] {
        let mut database = database(data, plane).await;
        let name = sqlx::query_scalar("SELECT instance FROM server").fetch_one(&mut database);
        names.push(name.await.unwrap());
    }
    names.try_into().unwrap()
}

async fn start(data: &Path) -> (Server, Api) {
    let server = Server::start(Config::for_tests(data.into())).await.unwrap();
    let api = Api::at(server.address(), TempDir::new().unwrap());
    (server, api)
}

/// Starts a server on a folder, and stops it.
async fn start_and_stop(data: &Path) {
    let (server, _) = start(data).await;
    server.stop().await;
}

/// The same, and somebody logs in meanwhile.
async fn let_bob_in(data: &Path) {
    let (server, api) = start(data).await;
    log_in(&api, "bob", b"correct horse").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn audit_srv_a10_a_backup_of_a_running_server_is_restored_under_new_names() {
    let folder = TempDir::new().unwrap();
    let (data, brought) = (folder.path().join("data"), folder.path().join("brought"));
    let (server, api) = start(&data).await;
    sign_up(&api, "bob", b"correct horse").await;
    let log = token(1);
    api.append(&commit(&log, Point::START, b"founding")).await.unwrap();
    let file = folder.path().join("backup");
    let name = file.to_str().unwrap();
    assert!(run(&data, &["backup", name]), "while the server runs");
    assert!(!run(&data, &["backup", name]), "nothing is overwritten");
    let later = messages(&log, crate::support::at(1, b"founding"), &[b"after the backup"]);
    api.append(&later).await.unwrap();

    assert!(!run(&data, &["restore", name]), "a folder in use is left alone");
    assert!(run(&brought, &["restore", name]));
    assert!(!run(&brought, &["restore", name]), "nor are databases overwritten");
    let before = instances(&data).await;
    server.stop().await;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&data), 0o700);
        for folder in [&data, &brought, &folder.path().to_owned()] {
            for file in std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()) {
                assert!(file.is_dir() || mode(&file) == 0o600, "{}", file.display());
            }
        }
    }

    let (server, api) = start(&brought).await;
    let after = instances(&brought).await;
    assert!(before.iter().all(|name| !after.contains(name)), "clients notice");
    log_in(&api, "bob", b"correct horse").await;
    assert_eq!(api.read(&log, 0).await.unwrap().head, 1);
    server.stop().await;
    let (server, _) = start(&brought).await;
    assert_eq!(instances(&brought).await, after, "a mere restart changes nothing");
    server.stop().await;
    assert!(run(&brought, &["restored"]));
    let (server, _) = start(&brought).await;
    assert!(instances(&brought).await.iter().all(|name| !after.contains(name)));
    server.stop().await;
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn audit_srv_b12_the_data_folder_and_its_files_are_their_owners_alone() {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    std::fs::DirBuilder::new().mode(0o755).create(&data).unwrap();
    let (server, api) = start(&data).await;
    sign_up(&api, "bob", b"correct horse").await;
    api.append(&commit(&token(1), Point::START, b"founding")).await.unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&data), 0o700);
    let files: Vec<_> =
        std::fs::read_dir(&data).unwrap().map(|file| file.unwrap().path()).collect();
    assert!(files.len() > 4, "{files:?}");
    for file in files {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn audit_srv_a10_a_database_that_was_copied_back_is_noticed() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    let (server, api) = start(&data).await;
    api.append(&commit(&token(1), Point::START, b"founding")).await.unwrap();
    server.stop().await;
    let before = instances(&data).await;
    let copy = folder.path().join("copy");
    std::fs::copy(data.join(LOGS), &copy).unwrap();
    start_and_stop(&data).await;
    assert_eq!(instances(&data).await, before);
    std::fs::copy(&copy, data.join(LOGS)).unwrap();
    start_and_stop(&data).await;
    let after = instances(&data).await;
    assert_eq!(after[0], before[0]);
    assert_ne!(after[1], before[1]);
}

#[tokio::test]
async fn audit_srv_a10_a_damaged_backup_is_refused() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    let (server, api) = start(&data).await;
    for log in 0..20 {
        api.append(&commit(&token(log), Point::START, &[log; 5000])).await.unwrap();
    }
    server.stop().await;
    let file = folder.path().join("backup");
    assert!(run(&data, &["backup", file.to_str().unwrap()]));
    let logs = folder.path().join("backup.logs");
    let mut bytes = std::fs::read(&logs).unwrap();
    // Entries; all that a restore reads by itself is whole.
    let pages = bytes.len() / 8192;
    for page in bytes.chunks_mut(8192).skip(pages - pages / 3) {
        page[..100].fill(7);
    }
    std::fs::write(&logs, bytes).unwrap();
    let brought = folder.path().join("brought");
    assert!(!run(&brought, &["restore", file.to_str().unwrap()]));
    assert!(!brought.join(ACCOUNTS).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_was_cut_short_is_run_again_before_anything_starts_there() {
    let folder = TempDir::new().unwrap();
    let (data, brought) = (folder.path().join("data"), folder.path().join("brought"));
    let (server, api) = start(&data).await;
    sign_up(&api, "bob", b"correct horse").await;
    api.append(&commit(&token(1), Point::START, b"founding")).await.unwrap();
    let file = folder.path().join("backup");
    let name = file.to_str().unwrap();
    assert!(run(&data, &["backup", name]));
    server.stop().await;
    let swapped = folder.path().join("swapped");
    for (from, to) in [("", ""), ("", ".logs"), (".opaque-seed", ".opaque-seed")] {
        let (from, to) = (format!("{name}{from}"), format!("{}{to}", swapped.display()));
        std::fs::copy(from, to).unwrap();
    }
    assert!(!run(&brought, &["restore", swapped.to_str().unwrap()]), "accounts twice");
    assert!(run(&brought, &["restore", name]));
    // As a kill between the two databases leaves it.
    std::fs::remove_file(brought.join("logs.db")).unwrap();
    std::fs::write(brought.join("restoring"), b"").unwrap();
    assert!(Server::start(Config::for_tests(brought.clone())).await.is_err());
    assert!(!run(&brought, &["restored"]));
    assert!(run(&brought, &["restore", name]));
    let (server, api) = start(&brought).await;
    log_in(&api, "bob", b"correct horse").await;
    assert_eq!(api.read(&token(1), 0).await.unwrap().head, 1);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_could_not_be_finished_has_no_file_of_its_name() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    start_and_stop(&data).await;
    std::fs::remove_file(data.join("opaque-seed")).unwrap();
    let file = folder.path().join("backup");
    assert!(!run(&data, &["backup", file.to_str().unwrap()]));
    assert!(!file.exists() && !folder.path().join("backup.logs").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn audit_srv_a10_an_old_copy_hands_out_no_package_whose_keys_may_be_gone() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    let (server, api) = start(&data).await;
    let bob = sign_up(&api, "bob", b"correct horse").await;
    let alive = async || {
        let mut database = database(&data, ACCOUNTS).await;
        let alive =
            sqlx::query_scalar::<_, i64>("SELECT alive FROM server").fetch_one(&mut database);
        alive.await.unwrap()
    };
    while alive().await == 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    server.stop().await;
    assert!(run(&data, &["restored"]));
    let (server, api) = start(&data).await;
    for _ in 0..2 {
        let claimed = api.call(&claim(bob.account)).await.unwrap().packages;
        assert_eq!(claimed.len(), 1);
        assert!(claimed[0].last_resort, "its keys are kept, others may have been used");
    }
    let fresh = vec![one_time(b"made after the loss")];
    let upload = UploadPackages { packages: fresh, replace: false, claimed: Vec::new() };
    api.call_as(Some(&bob.session.token), &upload).await.unwrap();
    server.stop().await;
    let (server, api) = start(&data).await;
    let claimed = api.call(&claim(bob.account)).await.unwrap().packages;
    assert_eq!(claimed[0].bytes, b"made after the loss");
    server.stop().await;
    // The copy is so old that what was renewed since has no keys any more.
    let options = SqliteConnectOptions::new().filename(data.join(ACCOUNTS));
    let mut accounts = SqliteConnection::connect_with(&options).await.unwrap();
    let earlier = sqlx::query("UPDATE server SET alive = alive - 7");
    earlier.execute(&mut accounts).await.unwrap();
    accounts.close().await.unwrap();
    assert!(run(&data, &["restored"]));
    let (server, api) = start(&data).await;
    assert_eq!(api.call(&claim(bob.account)).await.unwrap().packages, []);
    server.stop().await;
}

/// A server that is only just starting has not named its databases.
#[tokio::test(flavor = "multi_thread")]
async fn audit_srv_a10_a_copy_without_a_name_is_no_backup_and_restores_nothing() {
    let folder = TempDir::new().unwrap();
    let (data, brought) = (folder.path().join("data"), folder.path().join("brought"));
    let (server, api) = start(&data).await;
    sign_up(&api, "bob", b"correct horse").await;
    let file = folder.path().join("backup");
    assert!(run(&data, &["backup", file.to_str().unwrap()]));
    server.stop().await;
    let unname = async |path: &Path| {
        let options = SqliteConnectOptions::new().filename(path);
        let mut database = SqliteConnection::connect_with(&options).await.unwrap();
        sqlx::query("DELETE FROM server").execute(&mut database).await.unwrap();
        database.close().await.unwrap();
    };
    unname(&data.join(LOGS)).await;
    let again = folder.path().join("again");
    assert!(!run(&data, &["backup", again.to_str().unwrap()]));
    assert!(!again.exists());

    unname(&folder.path().join("backup.logs")).await;
    assert!(!run(&brought, &["restore", file.to_str().unwrap()]));
    assert!(!brought.exists(), "nothing is left of a folder that was made for it");
}

#[tokio::test]
async fn a_restore_that_fails_leaves_a_folder_as_it_was() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    let nothing = folder.path().join("nothing");
    let left = || {
        let files = std::fs::read_dir(&data).unwrap().map(|file| file.unwrap().file_name());
        files.collect::<Vec<_>>()
    };
    for command in [&["restore", nothing.to_str().unwrap()][..], &["restored"]] {
        assert!(!run(&data, command));
        assert!(!data.exists(), "{command:?} leaves a folder");
        std::fs::create_dir(&data).unwrap();
        std::fs::write(data.join("notes of the operator"), b"").unwrap();
        assert!(!run(&data, command));
        assert_eq!(left(), ["notes of the operator"], "{command:?}");
        std::fs::remove_dir_all(&data).unwrap();
    }
    // The lock of a server that was here before is its own.
    start_and_stop(&data).await;
    assert!(!run(&data, &["restore", nothing.to_str().unwrap()]));
    assert!(left().contains(&"lock".into()));
}

/// The files of a folder.
fn files(folder: &Path) -> BTreeMap<OsString, Vec<u8>> {
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap());
    files.map(|file| (file.file_name(), std::fs::read(file.path()).unwrap())).collect()
}

/// A backup of a server with bob, and with so many logs of 60 KB each.
async fn backup_with_logs(folder: &Path, logs: u8) -> String {
    let data = folder.join("data");
    let (server, api) = start(&data).await;
    sign_up(&api, "bob", b"correct horse").await;
    for log in 0..logs {
        api.append(&messages(&token(log), Point::START, &[&[log; 60_000]])).await.unwrap();
    }
    let file = folder.join("backup");
    let name = file.to_str().unwrap().to_owned();
    assert!(run(&data, &["backup", &name]));
    server.stop().await;
    name
}

#[tokio::test(flavor = "multi_thread")]
async fn audit_issue_7_f7_a_restore_that_finds_no_space_leaves_the_folder_as_it_was() {
    let Some(disk) = Disk::mount(4) else { return };
    let folder = TempDir::new().unwrap();
    let name = backup_with_logs(folder.path(), 30).await;
    let brought = disk.path().join("brought");
    // With what a restore replaces: its own seed, and how far lost databases had come.
    std::fs::create_dir(&brought).unwrap();
    std::fs::copy(format!("{name}.opaque-seed"), brought.join("opaque-seed")).unwrap();
    std::fs::write(brought.join("accounts.counter"), b"70").unwrap();
    let before = files(&brought);
    for space in [0, 1, 3] {
        let ballast = disk.fill();
        let length = std::fs::metadata(&ballast).unwrap().len() - space * 512 * 1024;
        std::fs::File::options().write(true).open(&ballast).unwrap().set_len(length).unwrap();
        assert!(!run(&brought, &["restore", &name]), "{space} halves of a MiB");
        assert!(files(&brought) == before, "{:?}", files(&brought).keys());
        let new = disk.path().join("above/new");
        assert!(!run(&new, &["restore", &name]), "{space} halves of a MiB");
        assert!(!disk.path().join("above").exists());
        std::fs::remove_file(&ballast).unwrap();
    }
    assert!(run(&brought, &["restore", &name]));
    assert_eq!(std::fs::read(brought.join("accounts.counter")).unwrap(), b"71");
    let_bob_in(&brought).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn audit_issue_7_f7_a_restore_takes_no_log_or_seed_that_does_not_fit() {
    let folder = TempDir::new().unwrap();
    let name = backup_with_logs(folder.path(), 1).await;
    let brought = folder.path().join("brought");
    std::fs::create_dir(&brought).unwrap();
    let log = brought.join("accounts.db-wal");
    std::fs::write(&log, b"what a killed server left").unwrap();
    let before = files(&brought);
    assert!(!run(&brought, &["restore", &name]));
    assert!(files(&brought) == before);
    std::fs::remove_file(log).unwrap();
    let seed = format!("{name}.opaque-seed");
    let kept = std::fs::read(&seed).unwrap();
    std::fs::write(&seed, &kept[1..]).unwrap();
    assert!(!run(&brought, &["restore", &name]));
    assert!(files(&brought).is_empty());
    std::fs::write(&seed, kept).unwrap();
    assert!(run(&brought, &["restore", &name]));
    let_bob_in(&brought).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn audit_issue_7_f7_what_a_killed_restore_left_is_never_taken_for_data() {
    let folder = TempDir::new().unwrap();
    let name = backup_with_logs(folder.path(), 100).await;
    let mut cut_short = 0;
    for round in 0..20 {
        let brought = folder.path().join(format!("brought {round}"));
        let restore = Command::new(env!("CARGO_BIN_EXE_corncrake-server"))
            .args(["restore", &name, "--data"])
            .arg(&brought)
            .stderr(Stdio::null())
            .spawn();
        let mut restore = restore.unwrap();
        tokio::time::sleep(Duration::from_millis(3 * round)).await;
        restore.kill().unwrap();
        let ended = restore.wait().unwrap().success();
        let is_there = |name: &str| brought.join(name).exists();
        if is_there("restoring") {
            cut_short += 1;
            assert!(Server::start(Config::for_tests(brought.clone())).await.is_err());
            assert!(!run(&brought, &["restored"]));
        } else {
            let is_whole = is_there(ACCOUNTS);
            assert_eq!(is_there(LOGS), is_whole, "round {round}");
            assert!(is_whole || !ended);
            if is_whole {
                let_bob_in(&brought).await;
                continue;
            }
        }
        assert!(run(&brought, &["restore", &name]), "round {round}");
        let left = files(&brought);
        assert!(left.keys().all(|name| !name.to_str().unwrap().contains("partial")));
        let_bob_in(&brought).await;
    }
    assert!(cut_short > 0, "some are killed in between");
}

#[tokio::test(flavor = "multi_thread")]
async fn audit_issue_7_al1_a_restore_replaces_no_seed_of_another_server() {
    let folder = TempDir::new().unwrap();
    let name = backup_with_logs(folder.path(), 1).await;
    let brought = folder.path().join("brought");
    std::fs::create_dir(&brought).unwrap();
    std::fs::write(brought.join("opaque-seed"), [7; 32]).unwrap();
    let before = files(&brought);
    assert!(!run(&brought, &["restore", &name]));
    assert_eq!(files(&brought), before);
    // Its own may lie there.
    std::fs::copy(format!("{name}.opaque-seed"), brought.join("opaque-seed")).unwrap();
    assert!(run(&brought, &["restore", &name]));
    let_bob_in(&brought).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn audit_issue_7_al2_a_restore_takes_the_place_of_a_server_to_which_nothing_came() {
    let folder = TempDir::new().unwrap();
    let name = backup_with_logs(folder.path(), 1).await;
    // As where a restore was killed before it could leave a mark, and a supervisor started the server.
    let brought = folder.path().join("brought");
    start_and_stop(&brought).await;
    assert!(run(&brought, &["restore", &name]));
    let_bob_in(&brought).await;
    assert!(!run(&brought, &["restore", &name]), "somebody is there");

    let used = folder.path().join("used");
    let (server, api) = start(&used).await;
    api.append(&commit(&token(1), Point::START, b"founding")).await.unwrap();
    server.stop().await;
    let before = files(&used);
    assert!(!run(&used, &["restore", &name]), "a log is there");
    assert_eq!(files(&used).keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
    let (server, api) = start(&used).await;
    assert_eq!(api.read(&token(1), 0).await.unwrap().head, 1);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seed_or_logs_of_another_server_are_refused() {
    let folder = TempDir::new().unwrap();
    let file = |name: &str| folder.path().join(name);
    for (data, backup) in [("one", "first"), ("two", "second")] {
        let (server, api) = start(&file(data)).await;
        sign_up(&api, "bob", b"correct horse").await;
        assert!(run(&file(data), &["backup", file(backup).to_str().unwrap()]));
        server.stop().await;
    }
    for part in [".opaque-seed", ".logs"] {
        let [ours, theirs] = ["first", "second"].map(|name| file(&format!("{name}{part}")));
        let kept = std::fs::read(&ours).unwrap();
        std::fs::copy(&theirs, &ours).unwrap();
        let brought = file("brought");
        assert!(!run(&brought, &["restore", file("first").to_str().unwrap()]), "{part}");
        assert!(!brought.join(ACCOUNTS).exists() && !brought.join(LOGS).exists());
        std::fs::write(&ours, kept).unwrap();
    }
    // Nor does a server start on it.
    let seed = file("one").join("opaque-seed");
    let kept = std::fs::read(&seed).unwrap();
    std::fs::copy(file("two").join("opaque-seed"), &seed).unwrap();
    let refused = Server::start(Config::for_tests(file("one"))).await.unwrap_err();
    assert!(refused.to_string().contains("opaque-seed"), "{refused}");
    std::fs::write(&seed, kept).unwrap();
    let_bob_in(&file("one")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_seed_is_taken_where_nobody_has_signed_up() {
    let folder = TempDir::new().unwrap();
    start_and_stop(folder.path()).await;
    std::fs::remove_file(folder.path().join("opaque-seed")).unwrap();
    let (server, api) = start(folder.path()).await;
    sign_up(&api, "bob", b"correct horse").await;
    server.stop().await;
    let_bob_in(folder.path()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_names_the_file_that_it_can_not_read_and_a_damaged_counter_counts_as_missing() {
    let folder = TempDir::new().unwrap();
    let (server, api) = start(folder.path()).await;
    sign_up(&api, "bob", b"correct horse").await;
    server.stop().await;
    let before = instances(folder.path()).await;
    for name in ["accounts.counter", "logs.counter"] {
        std::fs::write(folder.path().join(name), [0xff, 0xfe, 7]).unwrap();
    }
    let_bob_in(folder.path()).await;
    let after = instances(folder.path()).await;
    assert!(before[0] != after[0] && before[1] != after[1]);
    for name in [ACCOUNTS, LOGS] {
        let path = folder.path().join(name);
        let kept = std::fs::read(&path).unwrap();
        std::fs::write(&path, b"this is no database at all".repeat(1000)).unwrap();
        let refused = Server::start(Config::for_tests(folder.path().into())).await.unwrap_err();
        assert!(refused.to_string().contains(name), "{refused}");
        std::fs::write(&path, kept).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_fails_leaves_nothing_behind() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    start_and_stop(&data).await;
    std::fs::remove_file(data.join("opaque-seed")).unwrap();
    let backups = folder.path().join("backups");
    std::fs::create_dir(&backups).unwrap();
    assert!(!run(&data, &["backup", backups.join("backup").to_str().unwrap()]));
    let left: Vec<_> = std::fs::read_dir(&backups).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Nobody could log in on what would be brought back, and a restore refuses it.
#[tokio::test(flavor = "multi_thread")]
async fn audit_issue_7_k7_a_backup_takes_no_seed_of_another_server() {
    let folder = TempDir::new().unwrap();
    let (data, backups) = (folder.path().join("data"), folder.path().join("backups"));
    std::fs::create_dir(&backups).unwrap();
    start_and_stop(&data).await;
    let seed = data.join("opaque-seed");
    let kept = std::fs::read(&seed).unwrap();
    let backup = backups.join("backup");
    for wrong in [vec![7; kept.len()], kept[1..].to_vec(), Vec::new()] {
        std::fs::write(&seed, wrong).unwrap();
        assert!(!run(&data, &["backup", backup.to_str().unwrap()]));
        assert!(files(&backups).is_empty());
    }
    std::fs::write(&seed, kept).unwrap();
    assert!(run(&data, &["backup", backup.to_str().unwrap()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn audit_issue_7_a_backup_is_not_written_into_the_data_folder() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    start_and_stop(&data).await;
    assert!(!run(&data, &["backup", data.join("backup").to_str().unwrap()]));
    assert!(!data.join("backup").exists());
    assert!(run(&data, &["backup", folder.path().join("backup").to_str().unwrap()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn audit_issue_7_a_file_that_cannot_be_opened_is_named() {
    for name in ["lock", "opaque-seed"] {
        let folder = TempDir::new().unwrap();
        std::fs::create_dir(folder.path().join(name)).unwrap();
        let refused = Server::start(Config::for_tests(folder.path().into())).await.unwrap_err();
        assert!(refused.to_string().contains(name), "{refused}");
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    let refused = Server::start(Config::for_tests(file.path().into())).await.unwrap_err();
    let name = file.path().file_name().unwrap().to_str().unwrap();
    assert!(refused.to_string().contains(name), "{refused}");
}
