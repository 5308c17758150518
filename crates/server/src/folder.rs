//! The data folder: a lock, the password protocol's seed, and files that only their owner reads.

use std::{
    fs::{File, OpenOptions},
    io::{ErrorKind, Read, Write},
    path::{Path, PathBuf},
};

use corncrake_wire::opaque::ServerSecret;
use zeroize::Zeroizing;

use crate::Error;

/// The seed's file.
pub(crate) const SEED: &str = "opaque-seed";

/// A file that lies in a folder while a backup is brought into it.
const RESTORING: &str = "restoring";

/// A data folder that this process has for itself.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    /// Held for as long as the folder is in use.
    _lock: File,
}

impl Folder {
    /// Opens the folder, or makes it, and locks it.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        std::fs::create_dir_all(path).map_err(Error::failed)?;
        #[cfg(unix)]
        {
            use std::{fs::Permissions, os::unix::fs::PermissionsExt};
            std::fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(Error::failed)?;
        }
        let lock = private(&path.join("lock"))?;
        lock.try_lock().map_err(|_| Error::failed("the data folder is in use"))?;
        sync_folder(path)?;
        if let Some(parent) = path.canonicalize().map_err(Error::failed)?.parent() {
            // The folder's own name is an entry of its parent, which may belong to somebody else.
            drop(sync_folder(parent));
        }
        Ok(Self { path: path.to_owned(), _lock: lock })
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
                file.read_to_end(&mut bytes).map_err(Error::failed)?;
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
            Err(error) => Err(Error::failed(error)),
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

/// Puts bytes into a file that only its owner may read: all of them or, after a crash, none.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let partial = path.with_extension("new");
    drop(std::fs::remove_file(&partial));
    let mut file = private(&partial)?;
    file.write_all(bytes).map_err(Error::failed)?;
    file.sync_all().map_err(Error::failed)?;
    std::fs::rename(&partial, path).map_err(Error::failed)?;
    // Without this a crash of the machine may undo the rename.
    path.parent().map_or(Ok(()), sync_folder)
}

/// Makes durable what was made or renamed in a folder.
pub(crate) fn sync_folder(path: &Path) -> Result<(), Error> {
    if cfg!(unix) {
        File::open(path).and_then(|folder| folder.sync_all()).map_err(Error::failed)?;
    }
    Ok(())
}
