//! What the database could tell one who steals it.

use std::{collections::BTreeSet, path::Path, process::Command};

use corncrake_wire::{EntryId, NoticeId, log::Point};
use sqlx::{Row, SqliteConnection, ValueRef};

use crate::support::{
    ACCOUNTS, Api, LOGS, at, commit, database, deposit, messages, sign_up, token,
};

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
    let of = async |plane| {
        let columns = columns(&mut database(api.folder.path(), plane).await).await;
        let plane = plane.trim_end_matches(".db");
        columns.into_iter().map(|column| format!("{plane}.{column}")).collect::<BTreeSet<_>>()
    };
    let (accounts, logs) = (of(ACCOUNTS).await, of(LOGS).await);
    assert!(accounts.len() > 20 && logs.len() > 20);
    let columns = &accounts | &logs;
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
async fn audit_srv_a6_each_plane_has_a_database_of_its_own() {
    let api = Api::start().await;
    let bob = sign_up(&api, "bob", b"correct horse").await;
    let log = token(1);
    let mut founding = commit(&log, Point::START, b"founding");
    founding.entries[0].state = Some(b"state".to_vec());
    api.append(&founding).await.unwrap();
    api.append(&messages(&log, at(1, b"founding"), &[b"hello"])).await.unwrap();
    api.call(&deposit(bob.device.inbox, b"notice")).await.unwrap();

    let accounts: Vec<Vec<u8>> = vec![
        bob.account.0.to_vec(),
        bob.device.id.0.to_vec(),
        bob.device.inbox.0.to_vec(),
        bob.device.key.to_vec(),
        bob.session.token.digest().to_vec(),
        NoticeId::of(b"notice").0.to_vec(),
        b"notice".to_vec(),
        b"bob".to_vec(),
    ];
    let logs: Vec<Vec<u8>> = vec![
        log.log_id().0.to_vec(),
        EntryId::of(b"founding").0.to_vec(),
        b"founding".to_vec(),
        b"hello".to_vec(),
        b"opening".to_vec(),
        b"state".to_vec(),
    ];
    let secrets = [&log.expose_bytes()[..], bob.session.token.expose_bytes()];
    for (plane, ours, others) in [(ACCOUNTS, &accounts, &logs), (LOGS, &logs, &accounts)] {
        let mut database = database(api.folder.path(), plane).await;
        let mut found = BTreeSet::new();
        let tables: BTreeSet<String> = columns(&mut database)
            .await
            .iter()
            .map(|column| column.split_once('.').unwrap().0.to_owned())
            .collect();
        for table in tables {
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
                    assert!(!secrets.contains(&value.as_slice()), "no token is ever stored");
                    assert!(!others.contains(&value), "{table} of {plane} names the other plane");
                    if ours.contains(&value) {
                        found.insert(value);
                    }
                }
            }
        }
        assert_eq!(found.len(), ours.len(), "what the search looks for is there to be found");
    }
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
