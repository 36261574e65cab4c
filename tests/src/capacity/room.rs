//! Room on the disk: whether a part has enough of it, and how much a node takes.
//! A node counts what its directory holds by `log/` and `data/`, in bytes of files, not of blocks; files vanish while they are counted.
