//! Space on the disk of the data folder: what is free, what the data may take, and what is kept in
//! reserve.
//!
//! SQLite needs space before it can open a database, even one that is only read. On a disk without
//! a free byte a server could go on, but not start. So it keeps a file that gives way to its start.

use std::{
    io::{Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use crate::{Error, folder::private, random};

/// Free space below which nothing is written unless the operator says otherwise, if that is less
/// than a hundredth of the disk.
const MARK: u64 = 256 * 1024 * 1024;

/// The file that is kept in reserve, and its length. A start takes 32 KiB for each database, as much
/// again for each 32 MiB in its write-ahead log, and a few pages.
const RESERVE: &str = "reserve";
const RESERVE_BYTES: u64 = 1024 * 1024;

/// The disk of the data folder, and what makes it count as full.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    folder: PathBuf,
    /// Less is free than that.
    mark: Option<u64>,
    /// The folder's files hold more than that.
    most: u64,
}

impl Disk {
    pub(crate) fn new(folder: &Path, mark: Option<u64>, most: u64) -> Self {
        Self { folder: folder.to_owned(), mark, most }
    }

    /// The bytes that are free for the data, if the disk can be asked.
    pub(crate) fn free(&self) -> Option<usize> {
        let left = match self.most {
            u64::MAX => u64::MAX,
            most => most.saturating_sub(held(&self.folder)),
        };
        self.space().and_then(|space| usize::try_from(space.free.min(left)).ok())
    }

    /// Whether less is free than the mark says, or the data has its share. A disk that can't be
    /// asked is not full.
    pub(crate) fn is_full(&self) -> bool {
        if self.most < u64::MAX && held(&self.folder) > self.most {
            return true;
        }
        self.space().is_some_and(|Space { free, size }| {
            free < self.mark.unwrap_or_else(|| MARK.min(size / 100))
        })
    }

    /// The disk without what the reserve still lacks.
    fn space(&self) -> Option<Space> {
        let reserved = std::fs::metadata(self.folder.join(RESERVE)).map_or(0, |file| file.len());
        let lacks = RESERVE_BYTES.saturating_sub(reserved);
        let Space { free, size } = space(&self.folder)?;
        Some(Space { free: free.saturating_sub(lacks), size })
    }

    /// Gives the reserve to what is about to start, if that may need it.
    pub(crate) fn release_reserve(&self) {
        if space(&self.folder).is_none_or(|space| space.free < RESERVE_BYTES) {
            // At the first start there is none.
            drop(std::fs::remove_file(self.folder.join(RESERVE)));
        }
    }

    /// Fills the reserve up, as far as there is space.
    pub(crate) fn fill_reserve(&self) {
        if let Err(error) = self.lengthen_reserve()
            && !error.is_full()
        {
            tracing::warn!(%error, "no space is kept in reserve");
        }
    }

    fn lengthen_reserve(&self) -> Result<(), Error> {
        let mut file = private(&self.folder.join(RESERVE))?;
        let mut length = file.seek(SeekFrom::End(0)).map_err(Error::failed)?;
        while length < RESERVE_BYTES {
            // A file system that compresses would keep next to nothing for zeros.
            let bytes: [u8; 4096] = random()?;
            length += file.write(&bytes).map_err(Error::failed)? as u64;
        }
        Ok(())
    }
}

/// Bytes of the files in a folder.
fn held(folder: &Path) -> u64 {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    files.filter_map(|file| file.metadata().ok()).map(|data| data.len()).sum()
}

struct Space {
    free: u64,
    size: u64,
}

#[cfg(unix)]
fn space(folder: &Path) -> Option<Space> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
    Some(Space { free: bytes(disk.f_bavail), size: bytes(disk.f_blocks) })
}

#[cfg(not(unix))]
fn space(_folder: &Path) -> Option<Space> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn audit_srv_a4_data_may_take_so_much_of_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let bounded = Disk::new(folder.path(), Some(0), 1000);
        assert!(!bounded.is_full());
        std::fs::write(folder.path().join("logs.db"), [0; 600]).unwrap();
        assert!(!bounded.is_full());
        std::fs::write(folder.path().join("logs.db-wal"), [0; 600]).unwrap();
        assert!(bounded.is_full());
        assert!(!Disk::new(folder.path(), Some(0), u64::MAX).is_full());
        std::fs::remove_file(folder.path().join("logs.db-wal")).unwrap();
        assert!(!bounded.is_full(), "it heals");
    }
}
