//! Files that are either the old ones or the new ones, whatever happens while they are written.
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// An [`Error::Io`] about a path.
pub(in crate::finetune) fn io(path: &Path, reason: impl ToString) -> Error {
    Error::Io { path: path.display().to_string(), reason: reason.to_string() }
}

/// Where a file is written before it takes its name.
fn temporary(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".tmp");
    path.with_file_name(name)
}

/// Replaces `path` by what `fill` writes: to a file beside it, on to the disk, then renamed. After a crash, and where this
/// fails (a full disk), `path` is what it was.
///
/// # Errors
/// [`Error::Io`] with the path and the system's reason; those of `fill`.
pub(in crate::finetune) fn replace(
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<()> {
    let temporary = temporary(path);
    let written = File::create(&temporary).and_then(|mut file| {
        fill(&mut file)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    });
    if let Err(error) = written {
        // What is left of it only takes room; that it cannot be removed changes nothing.
        let _ = fs::remove_file(&temporary);
        return Err(io(path, format!("could not be written: {error}")));
    }
    sync_dir(path)
}

/// Brings the rename itself to the disk, where the system can.
fn sync_dir(path: &Path) -> Result<()> {
    if !cfg!(unix) {
        return Ok(());
    }
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| io(dir, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("triplet-atomic-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn a_failed_write_leaves_the_old_file() {
        let dir = folder("failed");
        let path = dir.join("state");
        replace(&path, |file| file.write_all(b"old")).unwrap();
        let failed = replace(&path, |file| {
            file.write_all(b"half of the n")?;
            Err(std::io::Error::other("stop"))
        });
        assert!(matches!(failed, Err(Error::Io { path, .. }) if path.ends_with("state")));
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1, "the temporary file is left");
        replace(&path, |file| file.write_all(b"new")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        fs::remove_dir_all(dir).unwrap();
    }

    /// `/dev/full` answers every write as a full disk does.
    #[test]
    #[cfg(target_os = "linux")]
    fn a_full_disk_is_named_and_leaves_the_old_file() {
        let dir = folder("full");
        let path = dir.join("state");
        replace(&path, |file| file.write_all(b"old")).unwrap();
        std::os::unix::fs::symlink("/dev/full", dir.join("state.tmp")).unwrap();
        match replace(&path, |file| file.write_all(b"new")) {
            Err(Error::Io { path, reason }) => {
                assert!(path.ends_with("state") && reason.contains("No space left"), "{path}: {reason}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(fs::read(&path).unwrap(), b"old");
        fs::remove_dir_all(dir).unwrap();
    }
}
