//! Whoever takes the server's whole folder tries to link accounts to logs: by values and numbers
//! that both databases hold, by sizes, by days, and by the order in which rows were written.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on should fail"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use serde_json::json;
use sqlx::{
    AssertSqlSafe, Column, Connection, Row, SqliteConnection, TypeInfo, ValueRef,
    sqlite::SqliteConnectOptions,
};
use tempfile::TempDir;
use xtask::{
    programs::{Programs, Server},
    session::Session,
};

const PEOPLE: [&str; 5] = ["ann", "bob", "cem", "dora", "emil"];
const PASSWORD: &str = "seven herons in a wet meadow";

/// A day in which five people sign up, write to each other and make a group.
fn live(programs: &Programs, folder: &Path, url: &str) {
    let mut sessions: Vec<_> = PEOPLE
        .into_iter()
        .map(|name| {
            let home = folder.join(name);
            programs.ask(&home, url, &["sign-up", name], &format!("{PASSWORD}\n")).unwrap();
            Session::start(programs, name, &home, url).unwrap()
        })
        .collect();
    for number in 1..PEOPLE.len() {
        let mut say = |from: usize, to: usize| {
            let text = format!("from {} to {}", PEOPLE[from], PEOPLE[to]);
            let command = json!({"do": "send", "chat": PEOPLE[to], "text": text, "wait": 60});
            sessions[from].ask(command).unwrap();
            sessions[to].settle().unwrap();
        };
        say(number, number - 1);
        say(number - 1, number);
    }
    let others = &PEOPLE[1..];
    sessions[0].ask(json!({"do": "create_group", "title": "meadow", "names": others})).unwrap();
    for session in &mut sessions {
        session.settle().unwrap();
    }
    let hello = json!({"do": "send", "chat": "#meadow", "text": "hello", "wait": 60});
    sessions[3].ask(hello).unwrap();
    for session in sessions {
        session.close().unwrap();
    }
}

/// What a database says, as far as it could be common to two.
#[derive(Default)]
struct Said {
    /// Bytes and texts that are long enough to be no accident.
    values: BTreeSet<Vec<u8>>,
    /// Numbers that are too large to be counts, positions or days.
    numbers: BTreeSet<i64>,
    /// Lengths of bytes, and the accounts or logs whose rows have them.
    sizes: BTreeMap<usize, BTreeSet<i64>>,
    /// Moments finer than a day, in seconds.
    moments: BTreeSet<i64>,
}

/// Columns by which a row belongs to an account or a log.
const OWNERS: [(&str, &str); 6] = [
    ("accounts", "num"),
    ("devices", "account"),
    ("sessions", "account"),
    ("entries", "log"),
    ("places", "log"),
    ("besides", "log"),
];

async fn read(file: &Path) -> Said {
    let options = SqliteConnectOptions::new().filename(file);
    let mut database = SqliteConnection::connect_with(&options).await.unwrap();
    let names = "SELECT name FROM sqlite_schema WHERE type = 'table' \
                 AND name NOT LIKE 'sqlite_%' AND name NOT LIKE '_sqlx_%'";
    let tables: Vec<String> = sqlx::query_scalar(names).fetch_all(&mut database).await.unwrap();
    let mut said = Said::default();
    for table in tables {
        let rows = sqlx::query(AssertSqlSafe(format!("SELECT * FROM {table}")));
        for row in rows.fetch_all(&mut database).await.unwrap() {
            let owner = OWNERS.iter().find(|(name, _)| *name == table);
            let owner = owner.map(|(_, column)| row.try_get::<i64, _>(*column).unwrap());
            for column in row.columns() {
                let raw = row.try_get_raw(column.ordinal()).unwrap();
                let kind = raw.type_info().name().to_owned();
                if raw.is_null() {
                    continue;
                }
                if kind == "INTEGER" {
                    let number: i64 = row.try_get(column.ordinal()).unwrap();
                    match number {
                        1_000_000_000..10_000_000_000 => drop(said.moments.insert(number)),
                        10_000_000_000.. => drop(said.numbers.insert(number)),
                        _ => {}
                    }
                    continue;
                }
                let value: Vec<u8> = row.try_get_unchecked(column.ordinal()).unwrap();
                if let Some(owner) = owner {
                    said.sizes.entry(value.len()).or_default().insert(owner);
                }
                if value.len() >= 8 && value.iter().any(|byte| *byte != 0) {
                    said.values.insert(value);
                }
            }
        }
    }
    database.close().await.unwrap();
    said
}

/// How a thief of a copy of the folder links accounts to logs.
fn links(folder: &Path) -> BTreeSet<&'static str> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let raw = |name: &str| {
        let wal = fs::read(folder.join(format!("{name}-wal"))).unwrap_or_default();
        [fs::read(folder.join(name)).unwrap(), wal].concat()
    };
    let wal = fs::metadata(folder.join("accounts.db-wal"));
    let has_wal = wal.is_ok_and(|wal| wal.len() > 0);
    let (raw_accounts, raw_logs) = (raw("accounts.db"), raw("logs.db"));
    let (accounts, logs) = runtime.block_on(async {
        (read(&folder.join("accounts.db")).await, read(&folder.join("logs.db")).await)
    });
    let mut found = BTreeSet::new();
    if has_wal {
        found.insert("the order of a write-ahead log");
    }
    let has = |bytes: &[u8], value: &[u8]| {
        let value = value.get(..32).unwrap_or(value);
        bytes.windows(value.len()).any(|window| window == value)
    };
    if accounts.values.iter().any(|value| has(&raw_logs, value))
        || logs.values.iter().any(|value| has(&raw_accounts, value))
    {
        found.insert("a value");
    }
    if !accounts.numbers.is_disjoint(&logs.numbers) {
        found.insert("a number");
    }
    // A size that one account and one log have, and no other.
    if accounts.sizes.iter().any(|(size, owners)| {
        owners.len() == 1 && *size > 64 && logs.sizes.get(size).is_some_and(|logs| logs.len() == 1)
    }) {
        found.insert("a size");
    }
    // The ends of sessions are whole weeks, but for log-ins without a device.
    if accounts.moments.iter().any(|moment| moment % (7 * 86_400) != 0) || !logs.moments.is_empty()
    {
        found.insert("a moment");
    }
    // Numbers that count up, and pages that were filled in the order of time.
    let mut nums: Vec<_> = accounts.numbers.iter().collect();
    nums.dedup();
    if nums.len() < 2 * PEOPLE.len() || !is_compact(folder) {
        found.insert("the order of rows");
    }
    found
}

/// Whether the accounts' file holds nothing but its rows in the order of their numbers: it is what
/// SQLite writes when it copies the rows.
fn is_compact(folder: &Path) -> bool {
    let copy = TempDir::new().unwrap();
    let path = copy.path().join("copy");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let options = SqliteConnectOptions::new().filename(folder.join("accounts.db"));
        // Else the copy holds what was in memory where its pages hold nothing.
        let options = options.read_only(true).pragma("secure_delete", "ON");
        let mut database = SqliteConnection::connect_with(&options).await.unwrap();
        let into = sqlx::query("VACUUM INTO ?").bind(path.to_str().unwrap().to_owned());
        into.execute(&mut database).await.unwrap();
        database.close().await.unwrap();
    });
    // The first hundred bytes count changes.
    fs::read(path).unwrap().get(100..) == fs::read(folder.join("accounts.db")).unwrap().get(100..)
}

fn copy_of(data: &Path) -> TempDir {
    let copy = TempDir::new().unwrap();
    for file in fs::read_dir(data).unwrap().map(|file| file.unwrap()) {
        fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
    }
    copy
}

/// Changes a stolen copy, to see that the thief finds what was planted.
fn plant(data: &Path, file: &str, sql: &str) -> BTreeSet<&'static str> {
    let copy = copy_of(data);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let options = SqliteConnectOptions::new().filename(copy.path().join(file));
        let mut database = SqliteConnection::connect_with(&options).await.unwrap();
        let other = if file == "logs.db" { "accounts.db" } else { "logs.db" };
        let other = copy.path().join(other);
        let attach = AssertSqlSafe(format!("ATTACH '{}' AS other", other.display()));
        sqlx::raw_sql(attach).execute(&mut database).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut database).await.unwrap();
        database.close().await.unwrap();
    });
    links(copy.path())
}

#[test]
fn audit_srv_a6_a_stolen_folder_links_no_account_to_a_log_and_a_planted_link_is_found() {
    let programs = Programs::build().unwrap();
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("server");
    let server = Server::start(&programs, &data, "127.0.0.1:0", None).unwrap();
    live(&programs, &folder.path().join("people"), &server.url());

    // While the server runs, its write-ahead log has the order of the last minute's writes.
    let running = links(copy_of(&data).path());
    let of_order = BTreeSet::from(["the order of a write-ahead log", "the order of rows"]);
    assert!(running.is_subset(&of_order), "{running:?}");
    server.stop().unwrap();
    assert_eq!(links(&data), BTreeSet::new());

    let found = |file, sql| plant(&data, file, sql);
    let value = "UPDATE logs SET id = (SELECT id FROM other.accounts LIMIT 1) WHERE num = 1";
    assert!(found("logs.db", value).contains("a value"));
    let number = "INSERT INTO days SELECT num, 1 FROM other.devices LIMIT 1";
    assert!(found("logs.db", number).contains("a number"));
    let size = "UPDATE accounts SET record = zeroblob(4321) \
                WHERE num = (SELECT min(num) FROM accounts); \
                UPDATE other.besides SET bytes = zeroblob(4321) \
                WHERE rowid = (SELECT min(rowid) FROM other.besides)";
    assert!(found("accounts.db", size).contains("a size"));
    let moment = "UPDATE sessions SET expires = expires + 7";
    assert!(found("accounts.db", moment).contains("a moment"));
    let order = "UPDATE devices SET added_day = added_day; \
                 DELETE FROM packages WHERE device = (SELECT min(num) FROM devices)";
    assert!(found("accounts.db", order).contains("the order of rows"));
}
