//! What the database could tell one who steals it.

use std::{collections::BTreeSet, path::Path, process::Command};

use corncrake_wire::{EntryId, NoticeId, log::Point};
use sqlx::{Row, SqliteConnection, ValueRef};

use crate::support::{Api, at, commit, database, deposit, messages, sign_up, token};

/// All columns as `table.column`.
async fn columns(database: &mut SqliteConnection) -> BTreeSet<String> {
    sqlx::query_scalar(
        "SELECT t.name || '.' || c.name FROM sqlite_schema t JOIN pragma_table_info(t.name) c \
         WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite%' AND t.name NOT LIKE '\\_sqlx%' ESCAPE '\\'",
    )
    .fetch_all(database)
    .await
    .unwrap()
    .into_iter()
    .collect()
}

#[tokio::test]
async fn each_column_has_its_line_in_security_md() {
    let api = Api::start().await;
    let columns = columns(&mut database(api.folder.path()).await).await;
    assert!(columns.len() > 30);
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../SECURITY.md");
    let page = std::fs::read_to_string(page).unwrap();
    let lines: BTreeSet<String> = page
        .lines()
        .filter_map(|line| {
            let (column, reveals) = line.strip_prefix("| `")?.split_once("` |")?;
            assert!(reveals.trim_end_matches('|').trim().len() > 3, "{line}");
            column.contains('.').then(|| column.to_owned())
        })
        .collect();
    assert_eq!(lines, columns);
}

#[tokio::test]
async fn no_table_joins_an_account_to_a_log() {
    let api = Api::start().await;
    let bob = sign_up(&api, "bob", b"correct horse").await;
    let log = token(1);
    let mut founding = commit(&log, Point::START, b"founding");
    founding.entries[0].state = Some(b"state".to_vec());
    api.append(&founding).await.unwrap();
    api.append(&messages(&log, at(1, b"founding"), &[b"hello"])).await.unwrap();
    api.call(&deposit(bob.device.inbox, b"notice")).await.unwrap();

    let accounts = [
        bob.account.0.to_vec(),
        bob.device.id.0.to_vec(),
        bob.device.inbox.0.to_vec(),
        bob.device.key.to_vec(),
        bob.session.token.digest().to_vec(),
        NoticeId::of(b"notice").0.to_vec(),
        b"notice".to_vec(),
        b"bob".to_vec(),
    ];
    let logs = [
        log.log_id().0.to_vec(),
        EntryId::of(b"founding").0[..16].to_vec(),
        EntryId::of(b"hello").0[..16].to_vec(),
        b"founding".to_vec(),
        b"hello".to_vec(),
        b"opening".to_vec(),
        b"state".to_vec(),
    ];
    let mut database = database(api.folder.path()).await;
    let tables: BTreeSet<String> = columns(&mut database)
        .await
        .iter()
        .map(|column| column.split_once('.').unwrap().0.to_owned())
        .collect();
    let (mut of_accounts, mut of_logs) = (BTreeSet::new(), BTreeSet::new());
    for table in &tables {
        let sql = sqlx::AssertSqlSafe(format!("SELECT * FROM {table}"));
        for row in sqlx::query(sql).fetch_all(&mut database).await.unwrap() {
            for column in 0..row.len() {
                let value = row.try_get_raw(column).unwrap();
                if value.is_null() {
                    continue;
                }
                let Ok(value) = row.try_get_unchecked::<Vec<u8>, _>(column) else {
                    continue;
                };
                assert_ne!(value, log.expose_bytes(), "an access token is never stored");
                assert_ne!(value, bob.session.token.expose_bytes(), "nor a session token");
                if accounts.contains(&value) {
                    of_accounts.insert(table.clone());
                }
                if logs.contains(&value) {
                    of_logs.insert(table.clone());
                }
            }
        }
        // Numbers could join too: what refers to an account says so.
        let refers: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(format!(
            "SELECT \"table\" FROM pragma_foreign_key_list('{table}')"
        )))
        .fetch_all(&mut database)
        .await
        .unwrap();
        if !refers.is_empty() {
            of_accounts.insert(table.clone());
        }
        let log_column: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM pragma_table_info(?) WHERE name IN ('log', 'entry', 'first_entry')",
        )
        .bind(table)
        .fetch_one(&mut database)
        .await
        .unwrap();
        if log_column > 0 {
            of_logs.insert(table.clone());
        }
    }
    let names = |tables: &BTreeSet<String>| tables.iter().cloned().collect::<Vec<_>>().join(" ");
    assert_eq!(names(&of_accounts), "accounts devices notices packages sessions");
    assert_eq!(names(&of_logs), "besides days entries logs places");
    let rest: BTreeSet<_> = &(&tables - &of_accounts) - &of_logs;
    assert_eq!(names(&rest), "progress server");
}

#[test]
fn the_server_links_neither_core_nor_client() {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--package", "corncrake-server", "--edges", "normal,build"])
        .args(["--prefix", "none", "--format", "{lib}"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let tree = String::from_utf8(tree.stdout).unwrap();
    let links: BTreeSet<_> = tree.lines().map(|line| line.trim_end_matches(" (*)")).collect();
    assert!(links.contains("corncrake_server") && links.contains("corncrake_wire"));
    assert!(!links.contains("corncrake_core"), "the server must not be able to decrypt");
    assert!(!links.contains("corncrake"), "the server must not be able to decrypt");
}
