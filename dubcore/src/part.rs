//! Files that appear whole or not at all: written beside their place, and renamed into it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// An unfinished file. Dropped before it is in its place, it is deleted.
#[derive(Debug)]
pub(crate) struct Part {
    path: PathBuf,
    target: PathBuf,
    placed: bool,
}

impl Part {
    /// Creates `NAME.part` beside `target`, or `NAME.part-PID-COUNT` where another writer has that one: never a file that
    /// exists. The target must be free or a file: a rename would put itself in the place of a device just as well.
    pub(crate) fn create(target: &Path) -> io::Result<(File, Self)> {
        Self::create_in(target.parent().unwrap_or(Path::new("")), target)
    }

    /// As [`Part::create`], in another folder of the same disk.
    pub(crate) fn create_in(folder: &Path, target: &Path) -> io::Result<(File, Self)> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let wrong = |what| Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        let Some(name) = target.file_name() else { return wrong("the path does not end in a file name") };
        // A folder cannot be renamed over, and is told then.
        if target.symlink_metadata().is_ok_and(|there| !there.is_file() && !there.is_symlink() && !there.is_dir()) {
            return wrong("what is there is not a file");
        }
        let mut suffix = ".part".to_owned();
        loop {
            let mut unfinished = name.to_owned();
            unfinished.push(&suffix);
            let path = folder.join(unfinished);
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => return Ok((file, Self { path, target: target.into(), placed: false })),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                    suffix = format!(".part-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// Puts it in its place, so that a power cut does not take it away again.
    pub(crate) fn place(mut self, file: &File) -> io::Result<()> {
        file.sync_all()?;
        fs::rename(&self.path, &self.target)?;
        self.placed = true;
        // Where folders can be synced at all; the file itself is safe by now.
        let folder = self.target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let _ = File::open(folder).and_then(|f| f.sync_all());
        Ok(())
    }

    /// Writes a whole file.
    pub(crate) fn write(target: &Path, bytes: &[u8]) -> io::Result<()> {
        let (mut file, part) = Self::create(target)?;
        file.write_all(bytes)?;
        part.place(&file)
    }

    /// One that is nowhere, for a writer whose file is not its own.
    #[cfg(test)]
    pub(crate) fn nowhere() -> Self {
        Self { path: "/nowhere/a.part".into(), target: "/nowhere/a".into(), placed: true }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.placed {
            // Nobody is left to tell if this fails.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_the_old_one_or_the_whole_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.txt");
        Part::write(&path, b"old").unwrap();
        let (mut file, part) = Part::create(&path).unwrap();
        file.write_all(b"new").unwrap();
        // Another writer has a name of its own.
        let (_, other) = Part::create(&path).unwrap();
        assert_eq!(names(dir.path()).len(), 3);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        part.place(&file).unwrap();
        drop(other);
        assert_eq!((names(dir.path()), fs::read(&path).unwrap()), (vec!["a.txt".to_owned()], b"new".to_vec()));
    }

    #[test]
    fn what_cannot_be_replaced_is_left() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Part::write(Path::new("/dev/null"), b"").is_err());
        assert!(Part::write(dir.path(), b"").is_err());
        assert!(Part::write(&dir.path().join(".."), b"").is_err());
        assert!(Part::write(&dir.path().join("none/a"), b"").is_err());
        assert!(names(dir.path()).is_empty());
    }
}
