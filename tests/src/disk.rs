//! A small disk: a file system of its own, in memory, that a test can fill. Mounting needs root.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system of its own; gone when it is dropped.
#[derive(Debug)]
pub struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// Puts a file system of this many bytes at `path`, which is created. `None` where the user of the tests may not mount.
    /// # Panics
    /// The directory cannot be created.
    #[must_use]
    pub fn mount(path: &Path, bytes: u64) -> Option<Self> {
        fs::create_dir(path).expect("a directory can be created");
        let options = format!("size={bytes}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(path).output();
        mounted.is_ok_and(|output| output.status.success()).then(|| Self { path: path.to_owned() })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes that are left.
    /// # Panics
    /// The system does not say.
    #[must_use]
    pub fn free(&self) -> u64 {
        let space = rustix::fs::statvfs(&self.path).expect("the file system is there");
        space.f_bavail * space.f_frsize
    }

    /// Takes all the room that is left, apart from so many bytes. With 0, writes until the disk refuses.
    /// # Panics
    /// There is no file.
    pub fn fill(&self, leave: u64) {
        let mut file = File::options().create(true).append(true).open(self.filler()).expect("a file can be created");
        for piece in [1 << 20, 1 << 12, 1] {
            while (leave == 0 || self.free() >= leave + piece as u64) && file.write_all(&vec![0; piece]).is_ok() {}
        }
    }

    /// Gives back what `fill` took.
    /// # Panics
    /// The disk was not filled.
    pub fn give_back(&self) {
        fs::remove_file(self.filler()).expect("the disk was filled");
    }

    fn filler(&self) -> PathBuf {
        self.path.join("fill")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, since the node may be on its way out.
        drop(Command::new("umount").arg("--lazy").arg(&self.path).output());
    }
}
