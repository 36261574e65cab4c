//! `redraft load` as a process of its own: its command line, its end, and the figures of its report.
//! Whether failures in them are the end of a measurement is for whoever asked; here they are counted and kept.
