//! What a server has stored, row by row, as anybody who takes its database sees it.

use std::{collections::BTreeSet, path::Path};

use sqlx::{
    Column, Connection, Row, SqliteConnection, TypeInfo, ValueRef,
    sqlite::{SqliteConnectOptions, SqliteRow},
};

use crate::Result;

/// A row as a line of text: its table and what stands in its columns.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StoredRow {
    /// The table.
    pub table: String,
    /// The columns: numbers and texts as they are, bytes by length and their first few.
    pub line: String,
}

/// All rows of both databases in the server's `folder`.
///
/// # Errors
/// There is no database that can be read.
pub fn rows(folder: &Path) -> Result<BTreeSet<StoredRow>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(read(folder))
}

async fn read(folder: &Path) -> Result<BTreeSet<StoredRow>> {
    let mut stored = BTreeSet::new();
    for plane in ["accounts.db", "logs.db"] {
        read_plane(&folder.join(plane), &mut stored).await?;
    }
    Ok(stored)
}

async fn read_plane(file: &Path, stored: &mut BTreeSet<StoredRow>) -> Result<()> {
    let options = SqliteConnectOptions::new().filename(file);
    let mut database = SqliteConnection::connect_with(&options).await?;
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' \
         AND name NOT LIKE '_sqlx_%' ORDER BY name",
    )
    .fetch_all(&mut database)
    .await?;
    for table in tables {
        let query = sqlx::AssertSqlSafe(format!("SELECT * FROM \"{table}\""));
        for row in sqlx::query(query).fetch_all(&mut database).await? {
            stored.insert(StoredRow { table: table.clone(), line: line(&row)? });
        }
    }
    database.close().await?;
    Ok(())
}

fn line(row: &SqliteRow) -> Result<String> {
    let mut parts = Vec::new();
    for column in row.columns() {
        let raw = row.try_get_raw(column.ordinal())?;
        let kind = raw.type_info().name().to_owned();
        let value = match kind.as_str() {
            _ if raw.is_null() => "-".to_owned(),
            "TEXT" => format!("\"{}\"", row.try_get::<String, _>(column.ordinal())?),
            "BLOB" => bytes(&row.try_get::<Vec<u8>, _>(column.ordinal())?),
            _ => row.try_get::<i64, _>(column.ordinal())?.to_string(),
        };
        parts.push(format!("{} {value}", column.name()));
    }
    Ok(parts.join(", "))
}

fn bytes(value: &[u8]) -> String {
    let start: String = value.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("<{} bytes {start}..>", value.len())
}
