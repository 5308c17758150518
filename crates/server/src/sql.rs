//! Statements over many rows at once. Each round trip to SQLite's thread costs as much as
//! storing several rows; the texts are made once and stay prepared.

use std::sync::LazyLock;

/// Rows in one statement at most.
pub(crate) const ROWS: usize = 128;

type Texts = LazyLock<Vec<String>>;

/// The texts for 1 to [`ROWS`] rows.
fn texts(head: &str, row: &str, tail: &str) -> Vec<String> {
    (1..=ROWS).map(|rows| format!("{head}{}{tail}", vec![row; rows].join(", "))).collect()
}

fn text(texts: &'static Texts, rows: usize) -> &'static str {
    texts.get(rows.saturating_sub(1)).map_or("", String::as_str)
}

/// Inserts rows into `entries`.
pub(crate) fn insert_entries(rows: usize) -> &'static str {
    static TEXTS: Texts = LazyLock::new(|| {
        texts(
            "INSERT INTO entries (num, log, position, flags, bytes) VALUES ",
            "(?, ?, ?, ?, ?)",
            "",
        )
    });
    text(&TEXTS, rows)
}

/// Inserts rows into `places`.
pub(crate) fn insert_places(rows: usize) -> &'static str {
    static TEXTS: Texts = LazyLock::new(|| {
        texts(
            "INSERT INTO places (log, position, entry, flags, length, id, running) VALUES ",
            "(?, ?, ?, ?, ?, ?, ?)",
            "",
        )
    });
    text(&TEXTS, rows)
}

/// Updates rows of `logs`.
pub(crate) fn update_logs(rows: usize) -> &'static str {
    static TEXTS: Texts = LazyLock::new(|| {
        texts(
            "WITH new (num, head, newest_commit, newest_commit_id, running, day, held) AS (VALUES ",
            "(?, ?, ?, ?, ?, ?, ?)",
            ") UPDATE logs SET head = new.head, newest_commit = new.newest_commit, \
             newest_commit_id = new.newest_commit_id, running = new.running, day = new.day, \
             held = new.held \
             FROM new WHERE logs.num = new.num",
        )
    });
    text(&TEXTS, rows)
}
