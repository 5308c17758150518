//! What becomes of a writer whose disk is full, whose database fails, or that panics.

use std::{net::Ipv4Addr, path::Path};

use corncrake_wire::ErrorCode;
use tempfile::TempDir;

use super::*;

async fn start(folder: &Path, mark: u64) -> (Writer, JoinHandle<()>) {
    let database = Database::accounts(folder);
    database.prepare().await.unwrap();
    let mut connection = database.writer().await.unwrap();
    crate::database::instance(&mut connection, &database, 0).await.unwrap();
    Writer::start(database, connection, None, Disk::new(folder, Some(mark), u64::MAX))
}

fn origin() -> Origin {
    Origin::of(Ipv4Addr::LOCALHOST.into())
}

fn code(result: Result<(), Error>) -> ErrorCode {
    result.unwrap_err().refusal().code
}

/// Stores an account of so many bytes.
async fn store(writer: &Writer, number: i64, bytes: usize) -> Result<(), Error> {
    writer
        .run(origin(), move |connection| {
            Box::pin(async move {
                sqlx::query("INSERT INTO accounts VALUES (?1, ?2, ?3, x'', x'', 1, ?2, 1, x'', 1)")
                    .bind(number)
                    .bind([vec![7; bytes], number.to_le_bytes().to_vec()].concat())
                    .bind(number.to_string())
                    .execute(connection)
                    .await?;
                Ok(())
            })
        })
        .await
}

async fn statement(writer: &Writer, sql: &'static str) -> Result<(), Error> {
    let work = writer.run_own(move |connection| {
        Box::pin(async move {
            sqlx::raw_sql(sql).execute(connection).await?;
            Ok(())
        })
    });
    work.await
}

async fn count(folder: &Path) -> i64 {
    let readers = Database::accounts(folder).readers().await.unwrap();
    sqlx::query_scalar("SELECT count(*) FROM accounts").fetch_one(&readers).await.unwrap()
}

/// Waits for a writer's death, and not for ever.
async fn dies(writer: &Writer) {
    timeout(Duration::from_secs(300), writer.health().dead()).await.expect("the writer lives on");
}

/// Repeats until the writer takes it; what was refused in between was not stored.
async fn store_in_the_end(writer: &Writer, number: i64) {
    for _ in 0..200 {
        match store(writer, number, 10).await {
            Ok(()) => return,
            Err(_) => sleep(Duration::from_millis(50)).await,
        }
    }
    panic!("the writer doesn't heal: {:?}", writer.health().now());
}

#[tokio::test]
async fn audit_srv_a2_a_full_database_costs_a_connection_and_not_the_server() {
    let folder = TempDir::new().unwrap();
    let (writer, task) = start(folder.path(), 0).await;
    store(&writer, 1, 10).await.unwrap();
    // The page count is the connection's: the one after it has none.
    statement(&writer, "PRAGMA max_page_count = 60").await.unwrap();
    assert_eq!(code(store(&writer, 2, 2_000_000).await), ErrorCode::StorageFull);
    store_in_the_end(&writer, 3).await;
    assert_eq!(writer.health().now(), Condition::Ready);
    assert_eq!(count(folder.path()).await, 2, "what was refused was not stored");
    drop(writer);
    task.await.unwrap();
}

#[tokio::test]
async fn audit_srv_a2_neighbours_of_a_broken_transaction_are_told_and_not_stored() {
    let folder = TempDir::new().unwrap();
    let (writer, _) = start(folder.path(), 0).await;
    // A rollback behind sqlx's back, as SQLite does it when the disk is full.
    let broken = statement(&writer, "ROLLBACK");
    let (broken, before, after) =
        tokio::join!(broken, store(&writer, 1, 10), store(&writer, 2, 10));
    assert!(broken.is_err());
    let stored = [before, after].iter().filter(|result| result.is_ok()).count();
    store_in_the_end(&writer, 3).await;
    assert_eq!(count(folder.path()).await, 1 + i64::try_from(stored).unwrap());
}

#[tokio::test]
async fn audit_srv_a2_below_the_mark_nothing_is_written_but_what_makes_room() {
    let folder = TempDir::new().unwrap();
    let (writer, _) = start(folder.path(), u64::MAX).await;
    for _ in 0..500 {
        if writer.health().now() == Condition::Full {
            break;
        }
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(code(store(&writer, 1, 10).await), ErrorCode::StorageFull);
    statement(&writer, "DELETE FROM accounts").await.unwrap();
    assert_eq!(count(folder.path()).await, 0, "reading goes on");
}

#[tokio::test]
async fn audit_srv_a2_a_panic_in_the_writer_is_its_death() {
    let folder = TempDir::new().unwrap();
    let (writer, task) = start(folder.path(), 0).await;
    let work = writer.run_own::<()>(|_| Box::pin(async { panic!("on purpose") }));
    assert_eq!(code(work.await), ErrorCode::Unavailable);
    dies(&writer).await;
    assert_eq!(code(store(&writer, 1, 10).await), ErrorCode::Unavailable);
    task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn audit_srv_a2_a_writer_that_cannot_reopen_gives_up() {
    let folder = TempDir::new().unwrap();
    let (writer, _) = start(folder.path(), 0).await;
    // Its table gone, nothing can ever be written again.
    statement(&writer, "DROP TABLE server").await.unwrap();
    drop(statement(&writer, "ROLLBACK").await);
    // No bound: time that is paused runs ahead of the disk.
    writer.health().dead().await;
}

#[tokio::test]
async fn audit_srv_a2_a_counter_that_was_not_stored_is_not_in_the_file_beside_it() {
    let folder = TempDir::new().unwrap();
    let database = Database::accounts(folder.path());
    database.prepare().await.unwrap();
    let mut connection = database.writer().await.unwrap();
    let instance = crate::database::instance(&mut connection, &database, 0).await.unwrap();
    // A commit that fails after its statement gave a row, as on a full disk.
    let failing = "CREATE TABLE theirs (one PRIMARY KEY);
        CREATE TABLE ours (one REFERENCES theirs DEFERRABLE INITIALLY DEFERRED);
        CREATE TRIGGER fails AFTER UPDATE ON server BEGIN INSERT INTO ours VALUES (1); END";
    sqlx::raw_sql(failing).execute(&mut connection).await.unwrap();
    assert!(database.count(&mut connection).await.is_err());
    sqlx::raw_sql("DROP TRIGGER fails").execute(&mut connection).await.unwrap();
    let again = crate::database::instance(&mut connection, &database, 0).await.unwrap();
    assert_eq!(again, instance, "nobody takes it for an older copy");
}

#[tokio::test(start_paused = true)]
async fn audit_srv_a6_a_write_ahead_log_is_emptied_after_a_minute() {
    let folder = TempDir::new().unwrap();
    let (writer, _task) = start(folder.path(), 0).await;
    store(&writer, 1, 10).await.unwrap();
    // It may be laid out anew with zeros.
    let is_empty = || {
        let log = std::fs::read(folder.path().join("accounts.db-wal")).unwrap();
        log.iter().all(|byte| *byte == 0)
    };
    assert!(!is_empty());
    for _ in 0..500 {
        sleep(Duration::from_secs(1)).await;
        if is_empty() {
            return;
        }
        // Time that is paused runs ahead of the disk.
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("it keeps the order of what was written");
}
