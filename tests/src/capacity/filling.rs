//! Data that can be checked: every key once, in random order, with values that follow from the number of their key.
//! So any key can be verified without a list, and what is written falls everywhere among what is there, as it does from applications: keys
//! in their order would cost an LSM tree next to nothing. Keys are named as `redraft load` names them, so that its reads find them.
