//! The data folder: a lock, the password protocol's seed, and files that only their owner reads.

use std::{
    fs::{File, Metadata, OpenOptions},
    io::{ErrorKind, Read, Write},
    path::{Path, PathBuf},
};

use corncrake_wire::opaque::ServerSecret;
use zeroize::Zeroizing;

use crate::Error;

/// The seed's file.
pub(crate) const SEED: &str = "opaque-seed";

/// The file that is locked, and what is said where it can't be.
pub(crate) const LOCK: &str = "lock";
const IN_USE: &str = "the data folder is in use";

/// A file that lies in a folder while a backup is brought into it.
const RESTORING: &str = "restoring";

/// A data folder that this process has for itself.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    /// Held for as long as the folder is in use.
    _lock: File,
    /// What was not there before.
    made: Made,
}

#[derive(Debug)]
struct Made {
    /// The folder and those above it, the innermost first.
    folders: Vec<PathBuf>,
    lock: bool,
}

impl Folder {
    /// Opens the folder, or makes it, and locks it.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let lock_path = path.join(LOCK);
        let missing = path.ancestors().take_while(|folder| !is_there(folder));
        let folders = missing.map(Path::to_owned).collect();
        let made = Made { folders, lock: !lock_path.exists() };
        let failed = |error: std::io::Error| Error::failed(error).about(path);
        std::fs::create_dir_all(path).map_err(failed)?;
        #[cfg(unix)]
        {
            use std::{fs::Permissions, os::unix::fs::PermissionsExt};
            std::fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(failed)?;
        }
        let lock = private(&lock_path).map_err(|error| error.about(&lock_path))?;
        lock.try_lock().map_err(|_| Error::failed(IN_USE))?;
        if !is_at(&lock, &lock_path) {
            return Err(Error::failed(IN_USE));
        }
        sync_folder(path)?;
        if let Some(parent) = path.canonicalize().map_err(failed)?.parent() {
            // The folder's own name is an entry of its parent, which may belong to somebody else.
            drop(sync_folder(parent));
        }
        Ok(Self { path: path.to_owned(), _lock: lock, made })
    }

    /// Ends what a command did here. If it came to nothing, nothing that was made for it is left.
    pub(crate) fn leave(self, done: Result<(), Error>) -> Result<(), Error> {
        if done.is_err() && self.made.lock && !self.is_half_restored() {
            // While it is held: whoever has opened it sees that it is gone once it has the lock.
            drop(std::fs::remove_file(self.path.join(LOCK)));
            for folder in &self.made.folders {
                // Only an empty one goes.
                drop(std::fs::remove_dir(folder));
            }
        }
        done
    }

    /// Where the folder is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether a restore into this folder was cut short.
    pub(crate) fn is_half_restored(&self) -> bool {
        self.path.join(RESTORING).exists()
    }

    /// Refuses a folder whose restore was cut short: it may hold one database of two.
    pub(crate) fn refuse_half_restored(&self) -> Result<(), Error> {
        match self.is_half_restored() {
            true => Err(Error::failed("a restore into this folder was cut short: run it again")),
            false => Ok(()),
        }
    }

    /// Notes that a backup is being brought into this folder.
    pub(crate) fn begin_restoring(&self) -> Result<(), Error> {
        replace(&self.path.join(RESTORING), b"")
    }

    /// Refuses to put a seed in the place of another one, with which another server's accounts may
    /// have been made: it can't be made again.
    pub(crate) fn refuse_other_seed(&self, seed: &[u8]) -> Result<(), Error> {
        let path = self.path.join(SEED);
        let held = match std::fs::read(&path) {
            Ok(bytes) => Zeroizing::new(bytes),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(Error::failed(error).about(&path)),
        };
        if *held == seed {
            return Ok(());
        }
        let path = path.display();
        Err(Error::failed(format!(
            "{path} is not the backup's: move it away if it is another server's"
        )))
    }

    /// Notes that all of it is there.
    pub(crate) fn end_restoring(&self) -> Result<(), Error> {
        std::fs::remove_file(self.path.join(RESTORING)).map_err(Error::failed)?;
        sync_folder(&self.path)
    }

    /// Reads the seed, or makes it if `accounts`, the accounts there are, is zero: to others a
    /// new one would make every password wrong.
    pub(crate) fn secret(&self, accounts: u64) -> Result<ServerSecret, Error> {
        let path = self.path.join(SEED);
        match File::open(&path) {
            Ok(mut file) => {
                let mut bytes = Zeroizing::new(Vec::new());
                let read = file.read_to_end(&mut bytes);
                read.map_err(|error| Error::failed(error).about(&path))?;
                ServerSecret::from_bytes(&bytes)
                    .map_err(|_| Error::failed("opaque-seed is damaged"))
            }
            Err(error) if error.kind() == ErrorKind::NotFound && accounts == 0 => {
                let secret = ServerSecret::new(&mut crate::OsRandom);
                replace(&path, &secret.expose_bytes())?;
                Ok(secret)
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Err(Error::failed("opaque-seed is missing beside a database with accounts"))
            }
            Err(error) => Err(Error::failed(error).about(&path)),
        }
    }
}

/// Opens a file for writing that only its owner may read, and makes it if it is missing. What is
/// in it stays.
pub(crate) fn private(path: &Path) -> Result<File, Error> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map_err(Error::failed)
}

/// Whether there is such a folder; a relative path begins in one that has no name.
fn is_there(folder: &Path) -> bool {
    folder.as_os_str().is_empty() || folder.exists()
}

/// Whether an open file is the one of this name: whoever made it may have removed it meanwhile.
fn is_at(file: &File, path: &Path) -> bool {
    file.metadata().and_then(|file| Ok(Identity::of(&file) == Identity::at(path)?)).unwrap_or(false)
}

/// What tells one file from another that has its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity(#[cfg(unix)] (u64, u64));

impl Identity {
    #[cfg(unix)]
    fn of(file: &Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        Self((file.dev(), file.ino()))
    }

    /// An open file keeps its name here.
    #[cfg(not(unix))]
    const fn of(_: &Metadata) -> Self {
        Self()
    }

    /// That of the file of this name.
    pub(crate) fn at(path: &Path) -> std::io::Result<Self> {
        std::fs::metadata(path).map(|file| Self::of(&file))
    }
}

/// Puts bytes into a file that only its owner may read: all of them or, after a crash, none.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let partial = path.with_extension("new");
    drop(std::fs::remove_file(&partial));
    let replaced = write_new(&partial, bytes)
        .and_then(|()| std::fs::rename(&partial, path).map_err(Error::failed));
    if replaced.is_err() {
        drop(std::fs::remove_file(&partial));
        return replaced;
    }
    // Without this a crash of the machine may undo the rename.
    path.parent().map_or(Ok(()), sync_folder)
}

/// Puts bytes into a new file that only its owner may read, and makes them durable.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let mut file = private(path)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(Error::failed)
}

/// Makes durable what was made or renamed in a folder.
pub(crate) fn sync_folder(path: &Path) -> Result<(), Error> {
    // The folder of a plain file name.
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    if cfg!(unix) {
        File::open(path).and_then(|folder| folder.sync_all()).map_err(Error::failed)?;
    }
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn audit_issue_7_a_plain_file_name_is_in_this_folder() {
        sync_folder(Path::new("backup").parent().unwrap()).unwrap();
    }

    #[test]
    fn a_lock_whose_name_is_gone_or_anothers_locks_nothing() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join(LOCK);
        let lock = private(&path).unwrap();
        assert!(is_at(&lock, &path));
        std::fs::remove_file(&path).unwrap();
        assert!(!is_at(&lock, &path));
        let other = private(&path).unwrap();
        assert!(!is_at(&lock, &path) && is_at(&other, &path));
    }
}
