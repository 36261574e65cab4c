//! An input read as a small program: numbers and byte strings in turn. It never fails; where it ends, zeros and empty strings follow.

use bytes::Bytes;

/// What is left of an input.
pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// A number of two bytes.
    pub(crate) fn short(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// Any number, in few bytes if it is small or near an end of its range.
    pub(crate) fn number(&mut self) -> u64 {
        match self.byte() {
            255 => u64::from_be_bytes(std::array::from_fn(|_| self.byte())),
            254 => u64::MAX - u64::from(self.byte()),
            253 => (i64::MAX as u64).wrapping_add(u64::from(self.byte())).wrapping_sub(128),
            252 => u64::from(self.short()),
            small => u64::from(small),
        }
    }

    /// A string with its length before it, in one byte or, after 255, in two.
    pub(crate) fn string(&mut self) -> &'a [u8] {
        let length = match self.byte() {
            255 => usize::from(self.short()),
            length => usize::from(length),
        };
        let (string, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        string
    }

    /// As `string`, copied.
    pub(crate) fn bytes(&mut self) -> Bytes {
        Bytes::copy_from_slice(self.string())
    }

    /// Everything that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }
}
