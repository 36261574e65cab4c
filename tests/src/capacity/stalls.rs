//! Part `stalls`: minutes of writes at a part of the capacity that was found just before, with a Raft snapshot sent in the middle.
//! Open loop: latencies count from when a command was due, so a pause shows in every command that was due in it. A tenth of a second in which
//! the generator's own sleeping thread woke too late says nothing about the server and does not count; nor does one that paid for such a
//! tenth shortly before. Each minute is a run of its own, since a report has quantiles of a whole run; the next one begins at once, when
//! what was due in the last one is answered.
