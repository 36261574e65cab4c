//! What a part found: tables for people, figures for programs, and marks.
//! A mark is a promise about figures, in words, with what was wanted and found, so that a line tells all there is to know of it.
