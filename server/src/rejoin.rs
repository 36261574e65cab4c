//! Coming back as a new node (`--rejoin`): what the directory held is set aside, and the node joins the members that it finds.
//! Whom to ask: the members that `join` names, else those that the data remember before they are set aside.
//! The file `rejoining` in the directory has what was found, from before the data go until the node is a member. With it, a start without
//! `--rejoin` after a crash joins as well: the flags that founded the cluster once would found another one, since the directory is empty.
//! Invariant: nothing is set aside before somebody to join is known.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use crate::config::{Address, Config};
use crate::node::FENCE;
use crate::node::storage::{self, StorageOptions};

/// The file in the data directory: the cluster's id, which may be empty, then a peer address on each line.
const FILE_NAME: &str = "rejoining";

/// Why a node cannot come back as a new one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RejoinError {
    /// Nobody to join is known. Nothing was set aside.
    #[error("--rejoin: {0}, so this node knows nobody to join: add --join HOST:PEERPORT, the peer address of a node that has the data")]
    NobodyKnown(String),
    /// The data cannot be moved, or the file `rejoining` not used. What was moved already is in the directory `set-aside-N`.
    #[error("cannot come back as a new node in {dir}: {cause}")]
    Directory {
        /// The data directory.
        dir: String,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
}

/// The cluster to come back to.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Way {
    /// `None` is the one that the peers belong to.
    cluster_id: Option<String>,
    /// At least one.
    peers: Vec<Address>,
}

/// Sets the data aside if `--rejoin` asks for it, and returns the configuration to go on with: that of a node which joins, if it comes back
/// or was stopped while it came back.
/// # Errors
/// Nobody to join is known, or the directory cannot be used.
pub(crate) fn prepare(config: Config) -> Result<Config, RejoinError> {
    let failed = |cause| RejoinError::Directory { dir: config.data_dir.display().to_string(), cause };
    let noted = read(&config.data_dir);
    let way = if config.rejoin {
        // A note that cannot be read is replaced.
        let way = find_way(&config, noted.ok().flatten())?;
        write(&config.data_dir, &way).and_then(|()| set_aside(&config.data_dir)).map_err(failed)?;
        Some(way)
    } else {
        noted.map_err(failed)?
    };
    Ok(match way {
        Some(way) => joining(config, way),
        None => config,
    })
}

/// The node is a member.
/// # Errors
/// The file cannot be removed.
pub(crate) fn finish(data_dir: &Path) -> Result<(), RejoinError> {
    match fs::remove_file(data_dir.join(FILE_NAME)) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(RejoinError::Directory { dir: data_dir.display().to_string(), cause }),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Whether the node of a directory was told to come back as a new one, and is not a member yet.
pub(crate) fn is_under_way(data_dir: &Path) -> bool {
    data_dir.join(FILE_NAME).exists()
}

fn find_way(config: &Config, noted: Option<Way>) -> Result<Way, RejoinError> {
    let others = |peers: Vec<Address>| peers.into_iter().filter(|peer| *peer != config.advertise_peer).collect::<Vec<_>>();
    let peers = others(config.join.clone());
    if !peers.is_empty() {
        return Ok(Way { cluster_id: config.cluster_id.clone(), peers });
    }
    let sizes = StorageOptions { block_cache_bytes: config.block_cache_bytes, memtable_bytes: config.memtable_bytes };
    let reason = match storage::remembered_peers(&config.data_dir, sizes) {
        Ok((cluster_id, peers)) => {
            let peers = others(peers.iter().filter_map(|peer| Address::parse(peer)).collect());
            if !peers.is_empty() {
                tracing::info!(cluster_id, peers = ?peers.iter().map(ToString::to_string).collect::<Vec<_>>(), "the data remember members");
                return Ok(Way { cluster_id: Some(cluster_id).filter(|id| !id.is_empty()), peers });
            }
            "the data remember no other member".to_owned()
        }
        Err(error) => format!("the data cannot be read ({error})"),
    };
    // A start before this one may have set them aside already.
    noted.ok_or(RejoinError::NobodyKnown(reason))
}

/// The configuration of a node that joins and founds nothing. What it was told about whom to join holds; what was found fills the gaps.
fn joining(config: Config, way: Way) -> Config {
    let is_told = config.join.iter().any(|peer| *peer != config.advertise_peer);
    Config {
        bootstrap: false,
        bootstrap_expect: None,
        join: if is_told { config.join } else { way.peers },
        cluster_id: config.cluster_id.or(way.cluster_id),
        ..config
    }
}

/// Moves everything of the node into a directory of its own, where it stays until somebody deletes it.
fn set_aside(data_dir: &Path) -> io::Result<()> {
    let mut parts = Vec::new();
    for part in ["log", "data", "high-water", "snapshots", FENCE] {
        if data_dir.join(part).try_exists()? {
            parts.push(part);
        }
    }
    if parts.is_empty() {
        return Ok(());
    }
    let place = (1..).map(|number| data_dir.join(format!("set-aside-{number}"))).find(|place| !place.exists());
    let place = place.expect("there are enough numbers");
    fs::create_dir_all(&place)?;
    for part in parts {
        fs::rename(data_dir.join(part), place.join(part))?;
    }
    tracing::warn!(place = %place.display(), "the former data were set aside; this node joins as a new one");
    Ok(())
}

fn write(data_dir: &Path, way: &Way) -> io::Result<()> {
    let part = data_dir.join(format!("{FILE_NAME}.part"));
    let mut file = File::create(&part)?;
    writeln!(file, "{}", way.cluster_id.as_deref().unwrap_or_default())?;
    for peer in &way.peers {
        writeln!(file, "{peer}")?;
    }
    file.sync_all()?;
    fs::rename(part, data_dir.join(FILE_NAME))?;
    File::open(data_dir)?.sync_all()
}

fn read(data_dir: &Path) -> io::Result<Option<Way>> {
    let text = match fs::read_to_string(data_dir.join(FILE_NAME)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut lines = text.lines();
    let cluster_id = lines.next().filter(|id| !id.is_empty()).map(str::to_owned);
    let peers: Vec<Address> = lines.filter_map(Address::parse).collect();
    // It was written whole, so this is somebody's hand or damage; to go on without it might found a cluster.
    if peers.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("the file {FILE_NAME} names no peer address")));
    }
    Ok(Some(Way { cluster_id, peers }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "00112233445566778899aabbccddeeff00112233";

    fn config(dir: &Path, options: &[(&str, &str)]) -> Config {
        let dir = dir.display().to_string();
        let options: Vec<_> =
            [("data-dir", dir.as_str()), ("peer-listen", "127.0.0.1:9")].into_iter().chain(options.iter().copied()).collect();
        Config::from_options(&options).expect("allowed")
    }

    fn joins(config: &Config) -> Vec<String> {
        assert!(!config.bootstraps_alone() && config.bootstrap_expect.is_none(), "it founds nothing");
        config.join.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_noted_is_read_again_until_the_node_is_a_member() {
        let dir = tempfile::tempdir().expect("temporary directory");
        assert_eq!(read(dir.path()).expect("read"), None);
        let peers = vec![Address::parse("a:1").expect("an address"), Address::parse("[::1]:2").expect("an address")];
        for cluster_id in [None, Some(ID.to_owned())] {
            let way = Way { cluster_id, peers: peers.clone() };
            write(dir.path(), &way).expect("write");
            assert_eq!(read(dir.path()).expect("read"), Some(way));
        }
        finish(dir.path()).expect("removed");
        finish(dir.path()).expect("nothing to remove");
        assert_eq!(read(dir.path()).expect("read"), None);
        fs::write(dir.path().join(FILE_NAME), "").expect("write");
        assert!(read(dir.path()).is_err(), "a broken one is not none");
    }

    #[test]
    fn a_node_that_comes_back_joins_with_the_flags_it_always_had() {
        for flags in [&[("bootstrap", "yes"), ("join", "a:1")][..], &[("bootstrap-expect", "2"), ("join", "a:1,127.0.0.1:9")]] {
            let dir = tempfile::tempdir().expect("temporary directory");
            fs::create_dir(dir.path().join("log")).expect("a directory");
            let rejoining: Vec<_> = flags.iter().copied().chain([("rejoin", "yes")]).collect();
            let prepared = prepare(config(dir.path(), &rejoining)).expect("prepared");
            assert_eq!(joins(&prepared)[0], "a:1");
            assert!(dir.path().join("set-aside-1/log").exists() && !dir.path().join("log").exists());
            // It was stopped before it was a member.
            let flags: Vec<_> = flags.iter().copied().filter(|(name, _)| *name != "join" && *name != "bootstrap-expect").collect();
            assert_eq!(joins(&prepare(config(dir.path(), &flags)).expect("prepared")), ["a:1"]);
            assert_eq!(joins(&prepare(config(dir.path(), &[("rejoin", "yes")])).expect("prepared")), ["a:1"]);
            finish(dir.path()).expect("a member");
            assert!(prepare(config(dir.path(), &[])).expect("prepared").bootstraps_alone());
        }
    }

    #[test]
    fn without_anybody_to_join_nothing_is_set_aside_and_the_flag_is_named() {
        let check = |make: &dyn Fn(&Path), join: &str, reason: &str| {
            let dir = tempfile::tempdir().expect("temporary directory");
            make(dir.path());
            let before = fs::read_dir(dir.path()).expect("readable").count();
            let error = prepare(config(dir.path(), &[("rejoin", "yes"), ("join", join)])).expect_err("nobody").to_string();
            assert!(error.contains(reason) && error.contains("add --join HOST:PEERPORT") && !error.contains('\n'), "{error}");
            assert_eq!(fs::read_dir(dir.path()).expect("readable").count(), before);
        };
        let damaged = |dir: &Path| {
            fs::create_dir(dir.join("data")).expect("a directory");
            fs::write(dir.join("data").join("000009.sst"), "x").expect("a file");
        };
        check(&|_| {}, "", "remember no other member");
        check(&|_| {}, "127.0.0.1:9", "remember no other member");
        check(&damaged, "", "cannot be read");
    }
}
