//! Data directories that are gone, old, or another node's. A node with such a directory may not vote as the one it was.

use std::fs;
use std::time::Duration;

use rand::seq::IndexedRandom;

use super::deck::Mode;
use super::stage::{DO_NOT_RESTART, Missed, Renewal, Stage, wait_refused};
use crate::dir::copy_dir;

/// How long two nodes may take to find their places in each other's directories.
const SWAPPED_MAX: Duration = Duration::from_secs(20);
/// As many starts as bring the boot counter of an old copy beyond the one that the others know.
const STARTS_OF_A_COPY: usize = 3;

impl Stage {
    pub(super) fn play_wipe(&mut self) -> Result<(), Missed> {
        let members = self.members();
        let position = *members.choose(&mut self.random).expect("there are members");
        let id = self.cluster.node_id(position);
        self.note(&format!("  wiped: {position}"));
        self.cluster[position].kill();
        self.come_back_new(position, Renewal::Wipe);
        assert_ne!(self.cluster.node_id(position), id, "the node at {position} comes back as a new member");
        self.prove(Mode::WipeDirectory, "new members", 1);
        Ok(())
    }

    /// The directory as it was before the node's last start.
    pub(super) fn play_old_copy(&mut self) -> Result<(), Missed> {
        let voters = self.voters()?;
        let position = *voters.choose(&mut self.random).expect("there is a leader");
        let dir = self.cluster[position].dir().to_owned();
        let copy = dir.with_extension("copy");
        self.cluster[position].stop();
        copy_dir(&dir, &copy);
        self.bring_back(position);
        self.note(&format!("  an old copy is put back: {position}"));
        self.cluster[position].kill();
        fs::remove_dir_all(&dir).expect("the directory can be removed");
        fs::rename(&copy, &dir).expect("the copy can take its place");
        self.cluster.disk(position).settle();
        for _ in 0..STARTS_OF_A_COPY {
            self.cluster.start_node(position);
            self.expect_refused(position);
            self.prove(Mode::RestoreOldCopy, "refused", 1);
        }
        let way = *Renewal::ALL.choose(&mut self.random).expect("there are two");
        self.come_back_new(position, way);
        Ok(())
    }

    /// `data` of one node with `log` of another.
    pub(super) fn play_swap_halves(&mut self) -> Result<(), Missed> {
        let two = self.two_followers()?;
        self.note(&format!("  swapped are the directories `data` of {two:?}"));
        for position in two {
            self.cluster[position].kill();
        }
        self.swap(two, "data");
        for position in two {
            self.cluster.start_node(position);
            self.expect_refused(position);
            self.prove(Mode::SwapHalves, "refused", 1);
        }
        self.swap(two, "data");
        two.into_iter().for_each(|position| self.cluster.start_node(position));
        Ok(())
    }

    /// The identity is in the directory, so this is as if both nodes had moved to each other's address.
    pub(super) fn play_swap_directories(&mut self) -> Result<(), Missed> {
        let two = self.two_followers()?;
        let [one, other] = two.map(|position| self.cluster.node_id(position));
        self.note(&format!("  swapped are the directories of {two:?}"));
        for position in two {
            self.cluster[position].stop();
        }
        self.swap(two, "");
        for position in two {
            self.cluster.start_node(position);
        }
        let took = self.wait_healthy(SWAPPED_MAX);
        self.note(&format!("  found their places after {took:.2?}"));
        let ids = two.map(|position| self.cluster.node_id(position));
        assert_eq!(ids, [other, one], "who a node is is in its directory");
        self.prove(Mode::SwapDirectories, "members that moved", 2);
        Ok(())
    }

    /// Swaps a part of the directories of two nodes that are down, or all of them.
    fn swap(&self, two: [usize; 2], part: &str) {
        let [one, other] = two.map(|position| self.cluster[position].dir().join(part));
        let aside = self.cluster.dir().join("aside");
        for (from, to) in [(&one, &aside), (&other, &one), (&aside, &other)] {
            // Not with a slash at its end, as an empty part would leave it.
            let tidy = |path: &std::path::Path| path.components().collect::<std::path::PathBuf>();
            fs::rename(tidy(from), tidy(to)).expect("a directory can be moved");
        }
        two.into_iter().for_each(|position| self.cluster.disk(position).settle());
    }

    /// Waits until a node has refused to go on.
    /// # Panics
    /// It goes on, or does not say why not.
    fn expect_refused(&mut self, position: usize) {
        let code = wait_refused(self, position);
        let words = self.last_words(position);
        self.note(&format!("  {position} refused: {words}"));
        assert_eq!(code, DO_NOT_RESTART, "exit code of the node at {position}: {words}");
        assert!(words.starts_with("redraft: "), "it says why: {words}");
    }
}
