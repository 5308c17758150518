//! Free space on the disk of the data folder.

use std::path::{Path, PathBuf};

/// Free space below which nothing is written unless the operator says otherwise, if that is less
/// than a hundredth of the disk.
const MARK: u64 = 256 * 1024 * 1024;

/// The disk of the data folder, and the mark below which it counts as full.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    folder: PathBuf,
    mark: Option<u64>,
}

impl Disk {
    pub(crate) fn new(folder: &Path, mark: Option<u64>) -> Self {
        Self { folder: folder.to_owned(), mark }
    }

    /// The bytes that are free, if the disk can be asked.
    pub(crate) fn free(&self) -> Option<usize> {
        space(&self.folder).and_then(|space| usize::try_from(space.free).ok())
    }

    /// Whether less is free than the mark says. A disk that can't be asked is not full.
    pub(crate) fn is_full(&self) -> bool {
        space(&self.folder).is_some_and(|Space { free, size }| {
            free < self.mark.unwrap_or_else(|| MARK.min(size / 100))
        })
    }
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
