//! The bits of a JPEG scan and the codes in them (ITU T.81, annexes C and F.2.2).
//!
//! Never: reads beyond a marker. Bits that the scan lacks make the picture a broken one.

use std::io::{BufRead, Read};

use super::super::picture::BadPicture;

/// Bits, most significant first, up to the next marker.
pub(super) struct Bits<R> {
    from: R,
    /// The next bits, at the top.
    held: u64,
    count: u32,
    /// The marker behind the bits, once it was met.
    marker: Option<u8>,
}

impl<R: BufRead> Bits<R> {
    pub(super) const fn new(from: R) -> Self {
        Self { from, held: 0, count: 0, marker: None }
    }

    /// The next byte behind a scan or between segments.
    pub(super) fn byte(&mut self) -> Result<u8, BadPicture> {
        let mut byte = [0];
        self.whole(&mut byte)?;
        Ok(byte[0])
    }

    /// Fills `bytes`.
    pub(super) fn whole(&mut self, bytes: &mut [u8]) -> Result<(), BadPicture> {
        super::whole(self.from.read_exact(bytes))
    }

    /// Passes over `len` bytes.
    pub(super) fn skip(&mut self, len: u64) -> Result<(), BadPicture> {
        let passed = std::io::copy(&mut (&mut self.from).take(len), &mut std::io::sink())?;
        if passed == len { Ok(()) } else { Err(BadPicture::Broken) }
    }

    /// Leaves the bits, and answers with the marker behind them.
    pub(super) fn marker(&mut self) -> Result<u8, BadPicture> {
        (self.held, self.count) = (0, 0);
        if let Some(marker) = self.marker.take() {
            return Ok(marker);
        }
        loop {
            while self.byte()? != 0xff {}
            let mut code = self.byte()?;
            while code == 0xff {
                code = self.byte()?;
            }
            if code != 0 {
                return Ok(code);
            }
        }
    }

    /// Holds 32 bits at least, if there are so many.
    fn fill(&mut self) -> Result<(), BadPicture> {
        while self.count <= 32 && self.marker.is_none() {
            let byte = self.byte()?;
            if byte == 0xff {
                let mut code = self.byte()?;
                while code == 0xff {
                    code = self.byte()?;
                }
                if code != 0 {
                    self.marker = Some(code);
                    return Ok(());
                }
            }
            self.held |= u64::from(byte) << (56 - self.count);
            self.count += 8;
        }
        Ok(())
    }

    /// The next `n` bits, at most 16, with zeros behind the last; [`Self::pass`] them.
    fn seen(&self, n: u32) -> u16 {
        (self.held >> 48) as u16 >> (16 - n)
    }

    fn pass(&mut self, n: u32) -> Result<(), BadPicture> {
        self.count = self.count.checked_sub(n).ok_or(BadPicture::Broken)?;
        self.held <<= n;
        Ok(())
    }

    /// The next `n` bits, at most 15.
    pub(super) fn take(&mut self, n: u32) -> Result<u16, BadPicture> {
        if n == 0 {
            return Ok(0);
        }
        self.fill()?;
        let bits = self.seen(n);
        self.pass(n)?;
        Ok(bits)
    }

    /// A number of `n` bits, of which the smaller half is negative (F.2.2.1).
    pub(super) fn signed(&mut self, n: u32) -> Result<i32, BadPicture> {
        if n == 0 {
            return Ok(0);
        }
        if n > 15 {
            return Err(BadPicture::Broken);
        }
        let bits = i32::from(self.take(n)?);
        Ok(if bits < 1 << (n - 1) { bits - (1 << n) + 1 } else { bits })
    }

    /// The next value in the codes of `table`.
    pub(super) fn value(&mut self, table: &Huffman) -> Result<u8, BadPicture> {
        self.fill()?;
        let short = table.short.get(usize::from(self.seen(SHORT_BITS))).copied().unwrap_or(0);
        if short != 0 {
            self.pass(u32::from(short >> 8))?;
            return Ok((short & 0xff) as u8);
        }
        for length in SHORT_BITS + 1..=16 {
            let (code, group) = (u32::from(self.seen(length)), &table.groups[length as usize - 1]);
            if code < group.end {
                self.pass(length)?;
                let at = (group.first + code).checked_sub(group.code).ok_or(BadPicture::Broken)?;
                return table.values.get(at as usize).copied().ok_or(BadPicture::Broken);
            }
        }
        Err(BadPicture::Broken)
    }
}

/// Codes up to this length are found at once.
const SHORT_BITS: u32 = 9;

/// The codes of one length.
#[derive(Clone, Copy, Default)]
struct Group {
    /// The first of them.
    code: u32,
    /// The code behind the last of them.
    end: u32,
    /// The value of the first.
    first: u32,
}

/// A table of codes.
pub(super) struct Huffman {
    /// By the next bits: the length of their code times 256, and its value; 0 for longer ones.
    short: Vec<u16>,
    groups: [Group; 16],
    values: Vec<u8>,
}

impl Huffman {
    /// Of so many codes of each length, and their values.
    pub(super) fn new(counts: &[u8; 16], values: Vec<u8>) -> Result<Self, BadPicture> {
        let mut table = Self { short: vec![0; 1 << SHORT_BITS], groups: [Group::default(); 16], values };
        let (mut code, mut first) = (0_u32, 0_u32);
        for (length, (&count, group)) in (1_u32..).zip(counts.iter().zip(&mut table.groups)) {
            *group = Group { code, end: code + u32::from(count), first };
            if group.end > 1 << length {
                return Err(BadPicture::Broken);
            }
            for (code, at) in (code..group.end).zip(first as usize..) {
                let value = *table.values.get(at).ok_or(BadPicture::Broken)?;
                if length <= SHORT_BITS {
                    let spare = SHORT_BITS - length;
                    let entry = (length as u16) << 8 | u16::from(value);
                    table.short[(code << spare) as usize..((code + 1) << spare) as usize].fill(entry);
                }
            }
            first += u32::from(count);
            code = group.end << 1;
        }
        Ok(table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_every_length_are_read_up_to_the_marker() {
        // One code of each length: 0, 10, 110, …
        let table = Huffman::new(&[1; 16], (1..=16).collect()).unwrap_or_else(|_| panic!("a table"));
        // Codes 1 and 16 (fifteen ones and a zero: a byte of ones has a zero behind it), then 3, then ones.
        let bytes = [0b0111_1111, 0xff, 0x00, 0b0110_1111, 0xff, 0xd9];
        let mut bits = Bits::new(&bytes[..]);
        let read: Vec<u8> = std::iter::from_fn(|| bits.value(&table).ok()).collect();
        assert_eq!(read, [1, 16, 3]);
        assert_eq!(bits.marker().ok(), Some(0xd9));
    }

    #[test]
    fn numbers_have_their_sign() {
        let bytes = [0b0110_1001, 0xff, 0xd9];
        let mut bits = Bits::new(&bytes[..]);
        let read: Vec<i32> = [1, 2, 3, 0].into_iter().filter_map(|n| bits.signed(n).ok()).collect();
        assert_eq!(read, [-1, 3, -5, 0]);
        assert!(bits.signed(3).is_err(), "there are two left");
    }

    #[test]
    fn more_codes_than_there_can_be_are_refused() {
        let mut counts = [0; 16];
        counts[0] = 3;
        assert!(Huffman::new(&counts, vec![1, 2, 3]).is_err());
        counts[0] = 2;
        assert!(Huffman::new(&counts, vec![1]).is_err());
        assert!(Huffman::new(&counts, vec![1, 2]).is_ok());
    }
}
