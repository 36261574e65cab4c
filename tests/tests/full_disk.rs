//! A disk without any room left: a node that ended on it can be started again, and what makes room is done through it.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use redraft_tests::client::ok;
use redraft_tests::dir::TestDir;
use redraft_tests::{Node, Value, eventually};

/// A file system of its own, in memory; gone when it is dropped.
struct SmallDisk {
    dir: TestDir,
}

impl SmallDisk {
    /// `None` where the user of the tests may not mount; `server/src/node/ballast.rs` tests what is decided without a disk.
    fn mount(size: &str) -> Option<Self> {
        let disk = Self { dir: TestDir::new() };
        fs::create_dir(disk.path()).expect("a directory can be created");
        let options = format!("size={size}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(disk.path()).status();
        mounted.is_ok_and(|status| status.success()).then_some(disk)
    }

    /// The data directory of a node, so that its log is elsewhere.
    fn path(&self) -> PathBuf {
        self.dir.join("node-1")
    }

    /// Takes all the room that is left.
    fn fill(&self) {
        let mut file = File::create(self.path().join("fill")).expect("a file can be created");
        for piece in [1 << 20, 1 << 12, 1] {
            while file.write_all(&vec![0; piece]).is_ok() {}
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, since the node may be on its way out. Where nothing was mounted, this does nothing.
        drop(Command::new("umount").arg("--lazy").arg(self.path()).output());
    }
}

#[test]
fn a_node_on_a_full_disk_starts_without_its_ballast_and_makes_a_new_one() {
    let Some(disk) = SmallDisk::mount("256m") else { return };
    let mut node = Node::new(disk.path(), &["--bootstrap", "--disk-reserve", "64mb", "--memtable-bytes", "8mb"]);
    node.start();
    node.wait_ready();
    node.client().set("k", "v");
    let ballast = disk.path().join("ballast");
    let wait_for_ballast =
        || eventually("there is a ballast", || ballast.metadata().is_ok_and(|file| file.len() == 16 << 20).then_some(()));
    wait_for_ballast();
    node.kill();
    disk.fill();

    node.start();
    node.wait_ready();
    assert!(!ballast.exists(), "its space was needed");
    let mut client = node.client();
    assert_eq!(client.get("k").as_deref(), Some(b"v".as_slice()), "nothing was lost");
    eventually("writes are refused", || matches!(client.ask(&["SET", "other", "v"]), Value::Error(_)).then_some(()));
    assert_eq!(client.must(&["DEL", "k"]), Value::Integer(1));

    fs::remove_file(disk.path().join("fill")).expect("the file can be removed");
    eventually("writes are taken again", || (client.ask(&["SET", "k", "v"]) == ok()).then_some(()));
    wait_for_ballast();
}
