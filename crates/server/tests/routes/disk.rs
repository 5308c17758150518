//! A disk that fills up, and is freed.

use std::{
    fs::File,
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
    pin::pin,
    process::Command,
    time::Duration,
};

use corncrake_server::{Config, Server};
use corncrake_wire::{AccessToken, ErrorCode, log::Point};
use tempfile::TempDir;

use crate::{
    process::Process,
    support::{Api, log_in, messages, problem, random, sign_up, token},
};

/// A small disk in memory; gone when dropped.
pub(crate) struct Disk(TempDir);

impl Disk {
    /// `None` where nobody may mount.
    pub(crate) fn mount(mebibytes: u32) -> Option<Self> {
        let folder = TempDir::new().unwrap();
        let size = format!("size={mebibytes}m");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(folder.path())
            .status();
        let disk = mounted.is_ok_and(|status| status.success()).then(|| Self(folder));
        // What SQLite does then is shown by `a_full_database_costs_a_connection`.
        assert!(disk.is_some() || std::env::var_os("CI").is_none(), "in CI a disk can be mounted");
        disk
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Fills it to the last byte with a file, which is then to be deleted.
    pub(crate) fn fill(&self) -> PathBuf {
        let path = self.path().join("ballast");
        let mut ballast = File::create(&path).unwrap();
        let full = loop {
            if let Err(error) = ballast.write_all(&[1; 4096]) {
                break error;
            }
        };
        assert_eq!(full.kind(), ErrorKind::StorageFull);
        path
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(self.path()).status());
    }
}

async fn healthy(api: &Api) -> bool {
    let health = api.http.get(format!("http://{}/healthz", api.address()));
    health.send().await.unwrap().status().is_success()
}

async fn appended(api: &Api, number: u32) -> Result<(), ErrorCode> {
    let body = [&number.to_le_bytes()[..], &[7; 60_000]].concat();
    let append = messages(&token(1), Point::START, &[&body]);
    api.append(&append).await.map(|_| ()).map_err(|refused| refused.code)
}

/// Begins a log, which takes more than one statement.
async fn begun(api: &Api, number: u32) -> Result<(), ErrorCode> {
    let mut append = messages(&AccessToken::new(random()), Point::START, &[&number.to_le_bytes()]);
    append.opening = Some(vec![7; 400_000]);
    api.append(&append).await.map(|_| ()).map_err(|refused| refused.code)
}

/// Fills the disk, frees some of it and shows that the server goes on by itself.
async fn fill_and_free(disk: &Disk, mark: u64) {
    let mut config = Config::for_tests(disk.path().join("data"));
    config.min_free = Some(mark);
    let server = Server::start(config.clone()).await.unwrap();
    let api = Api::at(server.address(), TempDir::new().unwrap());
    let ballast = disk.path().join("ballast");
    std::fs::write(&ballast, vec![1; 8 * 1024 * 1024]).unwrap();

    let mut acked = Vec::new();
    let mut number = 0;
    // The writer looks at the disk each second, tries again where nothing is kept free, and may have
    // found some space in its write-ahead log by then.
    for wait in [1200, 1200, 0] {
        let code = loop {
            match appended(&api, number).await {
                Ok(()) => acked.push(number),
                Err(code) => break code,
            }
            number += 1;
            assert!(number < 2000, "the disk fills up");
        };
        assert_eq!(code, ErrorCode::StorageFull);
        assert!(!acked.is_empty());
        tokio::time::sleep(Duration::from_millis(wait)).await;
    }
    assert_eq!(begun(&api, number).await, Err(ErrorCode::StorageFull));
    assert!(!api.read(&token(1), 0).await.unwrap().entries.is_empty(), "reading goes on");
    if mark > 0 {
        assert!(!healthy(&api).await);
        assert_eq!(api.append(&messages(&token(2), Point::START, &[b"x"])).await.unwrap_err(), {
            let mut refused = problem(ErrorCode::StorageFull);
            refused.retry_after = Some(5);
            refused
        });
    }

    std::fs::remove_file(&ballast).unwrap();
    number = 10_000;
    for _ in 0..200 {
        match appended(&api, number).await {
            Ok(()) => {
                acked.push(number);
                break;
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
    assert_eq!(acked.last(), Some(&number), "it heals by itself");
    assert!(healthy(&api).await);
    all_there(&api, &acked).await;

    server.stop().await;
    let server = Server::start(config).await.unwrap();
    let api = Api::at(server.address(), TempDir::new().unwrap());
    all_there(&api, &acked).await;
    server.stop().await;
}

/// What was acknowledged is in the log, once and in order.
async fn all_there(api: &Api, acked: &[u32]) {
    let mut found = Vec::new();
    let mut after = 0;
    loop {
        let page = api.read(&token(1), after).await.unwrap().entries;
        let Some(last) = page.last() else { break };
        after = last.position;
        found.extend(page.iter().map(|e| u32::from_le_bytes(e.bytes[..4].try_into().unwrap())));
    }
    assert!(found.is_sorted_by(|a, b| a < b), "once and in order: {found:?}");
    assert!(acked.iter().all(|number| found.contains(number)), "{acked:?} {found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn audit_srv_a2_a_server_heals_when_its_full_disk_is_freed() {
    for mark in [0, 2 * 1024 * 1024] {
        let Some(disk) = Disk::mount(24) else { return };
        fill_and_free(&disk, mark).await;
    }
}

/// A server that starts on a disk without a free byte is as one whose disk fills up while it runs.
#[tokio::test(flavor = "multi_thread")]
async fn audit_issue_7_f7_a_server_starts_on_a_disk_without_a_free_byte() {
    let Some(disk) = Disk::mount(24) else { return };
    let data = disk.path().join("data");
    let mut process = Process::start(&data, &["--no-rate-limits"]);
    let api = Api::at(process.address, TempDir::new().unwrap());
    sign_up(&api, "bob", b"correct horse").await;
    let mut acked = Vec::new();
    for number in 0..20 {
        appended(&api, number).await.unwrap();
        acked.push(number);
    }
    let mut ballast = disk.fill();
    // After a kill with much in the write-ahead logs, after another one, and after an orderly stop.
    for round in 0..3 {
        if round < 2 {
            process.kill();
        } else {
            process.ask_to_stop();
        }
        process.wait();
        drop(std::fs::remove_file(&ballast));
        ballast = disk.fill();
        process = Process::start(&data, &["--no-rate-limits"]);
        let api = Api::at(process.address, TempDir::new().unwrap());
        all_there(&api, &acked).await;
        // A write-ahead log that was emptied has left some space.
        let code = loop {
            let number = acked.len() as u32;
            match appended(&api, number).await {
                Ok(()) => acked.push(number),
                Err(code) => break code,
            }
        };
        assert_eq!(code, ErrorCode::StorageFull, "round {round}");
        assert!(!healthy(&api).await, "round {round}");
        all_there(&api, &acked).await;
    }

    std::fs::remove_file(&ballast).unwrap();
    let api = Api::at(process.address, TempDir::new().unwrap());
    while appended(&api, 1000).await.is_err() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    acked.push(1000);
    assert!(healthy(&api).await);
    all_there(&api, &acked).await;
    log_in(&api, "bob", b"correct horse").await;
    while std::fs::metadata(data.join("reserve")).unwrap().len() < 1024 * 1024 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn audit_issue_7_f7_a_start_waits_where_the_disk_has_no_space_for_it() {
    let Some(disk) = Disk::mount(8) else { return };
    let config = Config::for_tests(disk.path().join("data"));
    let server = Server::start(config.clone()).await.unwrap();
    let api = Api::at(server.address(), TempDir::new().unwrap());
    appended(&api, 1).await.unwrap();
    server.stop().await;
    std::fs::remove_file(config.data.join("reserve")).unwrap();
    for data in [config.data, disk.path().join("new")] {
        let ballast = disk.fill();
        let mut starting = pin!(Server::start(Config::for_tests(data)));
        let started = tokio::time::timeout(Duration::from_millis(500), starting.as_mut()).await;
        assert!(started.is_err(), "it waits");
        std::fs::remove_file(&ballast).unwrap();
        let server = starting.await.unwrap();
        let api = Api::at(server.address(), TempDir::new().unwrap());
        appended(&api, 2).await.unwrap();
        server.stop().await;
    }
}
