//! Part `recovery`, a node that has nothing: it joins one that holds the data, and gets a Raft snapshot; once while nobody writes, once
//! beside paced writes, whose latencies are compared with those of the time before.
//! Phases are told apart by the directories below `snapshots/`, as an operator could see them: the leader makes `out-*`, the joiner
//! `in-*.part`, which loses its suffix when it is whole. They are looked at every ten milliseconds. The time counts from when the leader
//! begins to make files, to when the joiner has applied what was committed.
