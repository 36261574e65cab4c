//! Part `recovery`, a node alone: many keys and a Raft log just below the size at which it is truncated, then SIGKILL, or a stop in order,
//! and a start. What counts is the time until the first linearizable read is answered.
//! How large the log is in bytes nobody outside can see, but the first index moves when it is truncated: so the span of indices at that
//! moment is a full log, and the log is filled until its span is nearly that again.
