//! Backups: taken while the server runs, and brought back.
//!
//! A backup is three files: `FILE` with the accounts, `FILE.logs`, and `FILE.opaque-seed`, which
//! allows guesses of passwords to be tested and belongs elsewhere. Accounts are copied first, so
//! that no notice in the backup names an entry that it lacks.

use std::{
    ffi::OsString,
    fs::File,
    path::{Path, PathBuf},
};

use corncrake_wire::opaque::ServerSecret;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};

use crate::{
    Error,
    database::Database,
    folder::{Folder, SEED, private, replace, sync_folder, write_new},
    seed_mark,
};

/// What follows the name of a file while it isn't whole.
const PARTIAL: &str = ".partial";
/// What SQLite keeps beside a database.
const WRITE_AHEAD: [&str; 2] = ["-wal", "-shm"];

/// Writes a backup of the databases in the folder `data` to `file` and the two files beside it.
///
/// # Errors
/// When one of the files exists, can't be written, or would be damaged.
pub async fn backup(data: &Path, file: &Path) -> Result<(), Error> {
    let files = Files::of(file);
    refuse_inside(data, file)?;
    for (from, to) in files.databases(data) {
        if !from.exists() {
            return Err(Error::failed(format!("there is no {}", from.display())));
        }
        refuse_existing(&to)?;
    }
    refuse_existing(&files.seed)?;
    let partials = Partials::of_backup(&files);
    partials.remove();
    let seed_path = data.join(SEED);
    let seed = std::fs::read(&seed_path).map_err(|error| Error::failed(error).about(&seed_path))?;
    let seed = zeroize::Zeroizing::new(seed);
    for (from, to) in files.databases(data) {
        let partial = beside(&to, PARTIAL);
        drop(private(&partial).map_err(|error| error.about(&partial))?);
        let options = Database::plain(&from).read_only(true);
        // Else the copy holds what was in memory where its pages hold nothing.
        let mut database = options.pragma("secure_delete", "ON").connect().await?;
        sqlx::query("VACUUM INTO ?")
            .bind(partial.to_string_lossy().into_owned())
            .execute(&mut database)
            .await?;
        check(&partial).await?;
        check_named(&partial).await?;
        // With another server's seed nobody could log in on what is brought back.
        seed_mark::check(&Database::at(&partial), &Database::at(&from), &seed).await?;
    }
    replace(&files.seed, &seed)?;
    partials.move_into_place()
}

/// Brings a backup into the folder `data`, which has no databases yet, or those of a server to which
/// nothing ever came: it may have been started where a restore was cut short too early to say so.
/// When the server starts there, it gives its databases new names, by which clients notice that
/// entries may be missing. A folder whose restore was cut short takes nothing but another one.
///
/// # Errors
/// When the folder is in use, has databases or another seed, or the backup is damaged.
pub async fn restore(data: &Path, file: &Path) -> Result<(), Error> {
    let folder = Folder::open(data)?;
    let done = bring(&folder, &Files::of(file)).await;
    folder.leave(done)
}

async fn bring(folder: &Folder, files: &Files) -> Result<(), Error> {
    let is_begun = folder.is_half_restored();
    let replaced =
        if is_begun { Replaced::Anything } else { what_is_replaced(folder, files).await? };
    if !is_begun {
        // From here on a kill leaves a folder on which no server begins empty by mistake.
        folder.begin_restoring()?;
    }
    let partials = Partials::of_restore(folder.path());
    partials.remove();
    if let Err(error) = lay_out(folder, files, replaced).await {
        drop(partials);
        if !is_begun {
            // What was wrong first is the news.
            drop(folder.end_restoring());
        }
        return Err(error);
    }
    for (to, _) in files.databases(folder.path()) {
        // SQLite would take the log that another database has left for that of this one.
        for ending in WRITE_AHEAD {
            drop(std::fs::remove_file(beside(&to, ending)));
        }
    }
    partials.move_into_place()?;
    folder.end_restoring()
}

/// What may give way to a backup.
#[derive(Clone, Copy)]
enum Replaced {
    Nothing,
    /// Databases in which nothing is, and the seed that was made for them; or what an earlier
    /// restore has brought.
    Anything,
}

/// Looks at what lies in a folder. What anything came to stays.
async fn what_is_replaced(folder: &Folder, files: &Files) -> Result<Replaced, Error> {
    let databases = files.databases(folder.path());
    if !databases.iter().all(|(to, _)| to.exists()) {
        for (to, _) in databases {
            refuse_existing(&to)?;
            // SQLite would take the log that another database has left for that of this one.
            refuse_existing(&beside(&to, "-wal"))?;
        }
        return Ok(Replaced::Nothing);
    }
    for ((to, _), table) in databases.iter().zip(["accounts", "logs"]) {
        let counted = count(to, table).await;
        // Tables may be missing where a first start was cut short, but so they are from anything else.
        if counted.ok() != Some(0) {
            refuse_existing(to)?;
        }
    }
    Ok(Replaced::Anything)
}

/// How many rows a table has.
async fn count(path: &Path, table: &str) -> Result<i64, Error> {
    let mut database = Database::plain(path).connect().await?;
    let text = format!("SELECT count(*) FROM {table}");
    let count = sqlx::query_scalar(AssertSqlSafe(text)).fetch_one(&mut database).await?;
    Connection::close(database).await?;
    Ok(count)
}

/// Checks a backup and copies it into a folder, under names that a server doesn't read.
async fn lay_out(folder: &Folder, files: &Files, replaced: Replaced) -> Result<(), Error> {
    let data = folder.path();
    for (_, from) in files.databases(data) {
        check(&from).await?;
    }
    refuse_swapped(files).await?;
    for (_, from) in files.databases(data) {
        check_named(&from).await?;
    }
    let of_folder = data.join(SEED);
    let seed_file = if files.seed.exists() { &files.seed } else { &of_folder };
    if !seed_file.exists() {
        let seed = files.seed.display();
        return Err(Error::failed(format!("there is neither {seed} nor a seed in the folder")));
    }
    let seed = std::fs::read(seed_file).map_err(|error| Error::failed(error).about(seed_file))?;
    let seed = zeroize::Zeroizing::new(seed);
    for (to, from) in files.databases(data) {
        seed_mark::check(&Database::at(&from), &Database::at(&to), &seed).await?;
    }
    if ServerSecret::from_bytes(&seed).is_err() {
        return Err(Error::failed(format!("{} is damaged", seed_file.display())));
    }
    if matches!(replaced, Replaced::Nothing) {
        folder.refuse_other_seed(&seed)?;
    }
    write_new(&beside(&of_folder, PARTIAL), &seed)?;
    for (to, from) in files.databases(data) {
        let database = Database::at(&to);
        let counter = database.counter_ahead(&from).await?;
        write_new(&beside(&database.counter_file(), PARTIAL), counter.as_bytes())?;
        let partial = beside(&to, PARTIAL);
        let mut copy = private(&partial)?;
        let copied = File::open(&from).and_then(|mut from| std::io::copy(&mut from, &mut copy));
        // A file system may find only now that there is no space.
        let copied = copied.and_then(|_| copy.sync_all());
        copied.map_err(|error| Error::failed(error).about(&partial))?;
    }
    Ok(())
}

/// Says that the folder `data` is an old copy: when the server starts there, it gives its databases
/// new names, as after [`restore`].
///
/// # Errors
/// When the folder is in use or has no databases.
pub async fn restored(data: &Path) -> Result<(), Error> {
    let folder = Folder::open(data)?;
    let done = rename(&folder).await;
    folder.leave(done)
}

/// Has a start give a folder's databases new names.
async fn rename(folder: &Folder) -> Result<(), Error> {
    folder.refuse_half_restored()?;
    let databases = [Database::accounts(folder.path()), Database::logs(folder.path())];
    if let Some(missing) = databases.iter().find(|database| !database.path().exists()) {
        let path = missing.path().display();
        return Err(Error::failed(format!("{path} is missing: is --data the server's folder?")));
    }
    for database in databases {
        let counter = database.counter_ahead(database.path()).await?;
        replace(&database.counter_file(), counter.as_bytes())?;
    }
    Ok(())
}

/// What files are written to before all of them are whole. However it ends, nothing of that is left:
/// where a disk is full it would take the space that is missing.
struct Partials {
    /// The names that they get, in this order.
    names: Vec<PathBuf>,
}

impl Partials {
    /// Those of a backup. The file that was named comes last: where it is, the others are.
    fn of_backup(files: &Files) -> Self {
        Self { names: vec![files.logs.clone(), files.accounts.clone()] }
    }

    /// Those of a folder that a backup is brought into. The counters come before the databases:
    /// whatever happens in between, a start finds them ahead.
    fn of_restore(data: &Path) -> Self {
        let databases = [Database::accounts(data), Database::logs(data)];
        let counters = databases.each_ref().map(Database::counter_file);
        let databases = databases.each_ref().map(|database| database.path().to_owned());
        Self { names: [data.join(SEED)].into_iter().chain(counters).chain(databases).collect() }
    }

    fn move_into_place(&self) -> Result<(), Error> {
        for name in &self.names {
            move_into_place(&beside(name, PARTIAL), name)?;
        }
        Ok(())
    }

    fn remove(&self) {
        for name in &self.names {
            let partial = beside(name, PARTIAL);
            // Most are not there.
            drop(std::fs::remove_file(beside(&partial, "-journal")));
            drop(std::fs::remove_file(partial));
        }
    }
}

impl Drop for Partials {
    fn drop(&mut self) {
        self.remove();
    }
}

/// The files of a backup.
struct Files {
    accounts: PathBuf,
    logs: PathBuf,
    seed: PathBuf,
}

impl Files {
    fn of(file: &Path) -> Self {
        let (logs, seed) = (beside(file, ".logs"), beside(file, ".opaque-seed"));
        Self { accounts: file.to_owned(), logs, seed }
    }

    /// The databases of a folder, each with its file of the backup.
    fn databases(&self, data: &Path) -> [(PathBuf, PathBuf); 2] {
        let path = |database: Database| database.path().to_owned();
        [
            (path(Database::accounts(data)), self.accounts.clone()),
            (path(Database::logs(data)), self.logs.clone()),
        ]
    }
}

fn beside(file: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(file);
    name.push(ending);
    name.into()
}

fn refuse_existing(path: &Path) -> Result<(), Error> {
    match path.try_exists() {
        Ok(false) => Ok(()),
        Ok(true) => Err(Error::failed(format!("{} exists already", path.display()))),
        Err(error) => Err(Error::failed(error).about(path)),
    }
}

/// Refuses to write a backup into the folder that it is of: what takes that one takes both.
fn refuse_inside(data: &Path, file: &Path) -> Result<(), Error> {
    let folder = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let within = match (data.canonicalize(), folder.canonicalize()) {
        (Ok(data), Ok(folder)) => folder.starts_with(data),
        // The one that isn't there is refused by its name.
        _ => false,
    };
    match within {
        true => Err(Error::failed(format!("{} is in the data folder", file.display()))),
        false => Ok(()),
    }
}

/// Asks SQLite whether a database is whole.
async fn check(path: &Path) -> Result<(), Error> {
    let about = |error: sqlx::Error| Error::from(error).about(path);
    let mut database = Database::open_copy(path).await.map_err(about)?;
    let found: String = sqlx::query_scalar(AssertSqlSafe("PRAGMA quick_check(1)".to_owned()))
        .fetch_one(&mut database)
        .await
        .map_err(about)?;
    if found == "ok" {
        return Ok(());
    }
    Err(Error::failed(format!("{} is damaged: {found}", path.display())))
}

/// Refuses a copy that was made before the server had given the database its name.
async fn check_named(path: &Path) -> Result<(), Error> {
    let mut database = Database::open_copy(path).await?;
    let names: i64 =
        sqlx::query_scalar("SELECT count(*) FROM server").fetch_one(&mut database).await?;
    if names == 1 {
        return Ok(());
    }
    let path = path.display();
    Err(Error::failed(format!("{path} is of a server that had not started yet: copy it again")))
}

/// Refuses a backup whose two databases are not what their names say.
async fn refuse_swapped(files: &Files) -> Result<(), Error> {
    for (path, table) in [(&files.accounts, "accounts"), (&files.logs, "logs")] {
        let mut database = Database::open_copy(path).await?;
        let tables: i64 = sqlx::query_scalar("SELECT count(*) FROM sqlite_master WHERE name = ?")
            .bind(table)
            .fetch_one(&mut database)
            .await?;
        if tables == 0 {
            let path = path.display();
            return Err(Error::failed(format!("{path} is no backup of {table}")));
        }
    }
    Ok(())
}

fn move_into_place(partial: &Path, to: &Path) -> Result<(), Error> {
    File::open(partial).and_then(|file| file.sync_all()).map_err(Error::failed)?;
    std::fs::rename(partial, to).map_err(Error::failed)?;
    to.parent().map_or(Ok(()), sync_folder)
}
