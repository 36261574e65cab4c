//! Small programs work on a disk, and its power is cut; with so many seeds that whatever may be left is left by one of them.

use std::process::Command;

use rand::SeedableRng;

use super::*;
use crate::dir::TestDir;
use crate::shim::environment;

const SEEDS: u64 = 40;

/// What may be left when a shell has run a script in a directory: names with what the files hold.
fn left_by(script: &str, honesty: Honesty) -> BTreeSet<String> {
    let dir = TestDir::new();
    let library = library(dir.path());
    let left = |seed: u64| {
        let root = dir.join(format!("root-{seed}"));
        let disk = TestDisk::new(&library, &root, root.with_extension("disk"), honesty);
        fs::create_dir(&root).expect("a directory can be created");
        // Several lives, as a node has.
        for life in script.split("kill;") {
            let mut shell = Command::new("sh");
            let status = shell.args(["-ec", life]).current_dir(&root).envs(environment(&[disk.preload()])).status();
            assert!(status.expect("there is a shell").success(), "{life}");
        }
        disk.cut(&mut StdRng::seed_from_u64(seed));
        let after = told(&root);
        disk.cut(&mut StdRng::seed_from_u64(seed));
        assert_eq!(told(&root), after, "what a cut has left is durable");
        after
    };
    (0..SEEDS).map(left).collect()
}

fn told(root: &Path) -> String {
    let files = directories(root).into_iter().flat_map(|dir| entries(&dir).into_keys().map(move |name| dir.join(name)));
    let one = |path: PathBuf| {
        let name = path.strip_prefix(root).expect("it is below").display().to_string();
        if path.is_dir() { format!("{name}/") } else { format!("{name}={}", fs::read_to_string(path).expect("text").replace('\0', "0")) }
    };
    files.map(one).collect::<Vec<_>>().join(" ")
}

#[track_caller]
fn check(script: &str, expected: &[&str]) {
    assert_eq!(left_by(script, Honesty::Honest), expected.iter().map(|text| (*text).to_owned()).collect(), "{script}");
}

#[test]
fn what_was_synced_stays() {
    check("printf abc > a; sync a; sync .", &["a=abc"]);
    check("printf abc > a; sync -d a; sync .", &["a=abc"]);
    check("printf abc > a; sync a; sync .; mkdir d; mv a d/b; sync d; sync .", &["d/ d/b=abc"]);
    check("printf abc > a; sync a; kill; sync .", &["a=abc"]);
}

#[test]
fn of_what_was_appended_any_part_may_be_missing() {
    check("printf ab > a; sync a; sync .; printf xy >> a", &["a=ab", "a=ab00", "a=abx", "a=abxy"]);
    check("printf ab > a; sync a; sync .; kill; printf x >> a", &["a=ab", "a=ab0", "a=abx"]);
    check("printf ab > a; sync .", &["a=", "a=00", "a=a", "a=ab"]);
}

#[test]
fn a_long_file_loses_whole_pages() {
    let left =
        left_by("head -c 5000 /dev/zero | tr '\\0' s > a; sync a; sync .; head -c 20000 /dev/zero | tr '\\0' u >> a", Honesty::Honest);
    assert!(left.iter().all(|text| text.starts_with(&format!("a={}", "s".repeat(5000)))), "what was synced stays");
    assert!(left.iter().any(|text| text.contains("0u")), "there are zeroes before what was written");
    assert!(left.iter().any(|text| text.ends_with('0')), "there are zeroes at the end");
    assert!(left.iter().any(|text| text.len() < 25_000), "the end is missing");
}

#[test]
fn what_was_written_in_place_is_old_or_new() {
    check("printf old > a; sync a; sync .; printf new > a", &["a=new", "a=old"]);
    check("printf longer > a; sync a; sync .; printf new > a", &["a=longer", "a=new"]);
}

#[test]
fn names_are_there_or_not_until_their_directory_is_synced() {
    check("printf a > a; sync a", &["", "a=a"]);
    check("printf a > a; sync a; sync .; rm a", &["", "a=a"]);
    check("printf a > a; sync a; sync .; rm a; sync .", &[""]);
    check("mkdir d; printf a > d/a; sync d/a; sync d", &["", "d/ d/a=a"]);
    check("mkdir d; sync .; rmdir d; mkdir d", &["", "d/"]);
}

#[test]
fn a_move_happened_or_did_not() {
    check("printf 1 > a; sync a; sync .; mv a b", &["a=1", "b=1"]);
    check("printf 1 > a; printf 2 > b; sync a; sync b; sync .; mv b a", &["a=1 b=2", "a=2"]);
    check("printf 1 > a; sync a; sync .; printf 2 > b; sync b; mv b a", &["a=1", "a=2"]);
    check("mkdir d; sync .; printf 1 > d/a; sync d/a; sync d; mv d e", &["d/ d/a=1", "e/ e/a=1"]);
}

#[test]
fn a_disk_that_lies_may_lose_all_that_a_wal_holds() {
    let left = left_by("printf ab > a; printf ab > a.log; sync a; sync a.log; sync .", Honesty::LiesAboutWals);
    let expected = ["a=ab a.log=", "a=ab a.log=00", "a=ab a.log=a", "a=ab a.log=ab"];
    assert_eq!(left, expected.map(str::to_owned).into());
}
