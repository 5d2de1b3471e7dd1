//! Blocks of 8 x 8 values: how a scan writes them (ITU T.81, F.2.2 and G.1.2), and back from waves to pixels (A.3.3).

use std::f32::consts::FRAC_1_SQRT_2;
use std::io::BufRead;

use super::super::picture::BadPicture;
use super::bits::{Bits, Huffman};

/// Where the values of a scan stand in a block (A.3.6).
pub(super) const ZIGZAG: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21,
    28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54,
    47, 55, 62, 63,
];

/// A block of coefficients, row by row.
pub(super) type Block = [i16; 64];

fn at(k: usize) -> usize {
    usize::from(ZIGZAG[k & 63])
}

/// What a scan adds to the blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Band {
    /// The first and the last value, in the order of [`ZIGZAG`].
    pub(super) first: usize,
    pub(super) last: usize,
    /// The bit that was known before; 0: none.
    pub(super) high: u32,
    /// The bit that is known afterwards.
    pub(super) low: u32,
}

/// What goes on from block to block.
#[derive(Default)]
pub(super) struct Run {
    /// The mean of the block before, of each component.
    pub(super) means: [i32; 4],
    /// Blocks that are still empty.
    empty: u32,
}

impl Run {
    /// The mean of the next block, which is told as the difference to the last one.
    fn mean<R: BufRead>(&mut self, bits: &mut Bits<R>, table: &Huffman, component: usize) -> Result<i32, BadPicture> {
        let length = bits.value(table)?;
        let difference = bits.signed(u32::from(length))?;
        let mean = &mut self.means[component & 3];
        *mean = mean.wrapping_add(difference);
        Ok(*mean)
    }

    /// A whole block at once.
    pub(super) fn whole<R: BufRead>(
        &mut self,
        bits: &mut Bits<R>,
        (dc, ac): (&Huffman, &Huffman),
        component: usize,
        block: &mut Block,
    ) -> Result<(), BadPicture> {
        block[0] = self.mean(bits, dc, component)? as i16;
        let mut k = 1;
        while k < 64 {
            let (zeros, length) = split(bits.value(ac)?);
            if length == 0 {
                if zeros < 15 {
                    break;
                }
                k += 16;
                continue;
            }
            k += zeros;
            let value = bits.signed(length)?;
            *block.get_mut(at(k)).filter(|_| k < 64).ok_or(BadPicture::Broken)? = value as i16;
            k += 1;
        }
        Ok(())
    }

    /// The mean of a block in a progressive scan.
    pub(super) fn first<R: BufRead>(
        &mut self,
        bits: &mut Bits<R>,
        dc: Option<&Huffman>,
        component: usize,
        band: Band,
        block: &mut Block,
    ) -> Result<(), BadPicture> {
        if band.high == 0 {
            block[0] = (self.mean(bits, dc.ok_or(BadPicture::Broken)?, component)? << band.low) as i16;
        } else if bits.take(1)? == 1 {
            block[0] |= 1 << band.low;
        }
        Ok(())
    }

    /// The other values of a block in a progressive scan.
    pub(super) fn rest<R: BufRead>(
        &mut self,
        bits: &mut Bits<R>,
        ac: &Huffman,
        band: Band,
        block: &mut Block,
    ) -> Result<(), BadPicture> {
        if band.high > 0 {
            return self.refine(bits, ac, band, block);
        }
        if self.empty > 0 {
            self.empty -= 1;
            return Ok(());
        }
        let mut k = band.first;
        while k <= band.last {
            let (zeros, length) = split(bits.value(ac)?);
            if length > 0 {
                k += zeros;
                if k > band.last {
                    return Err(BadPicture::Broken);
                }
                block[at(k)] = (bits.signed(length)? << band.low) as i16;
                k += 1;
            } else if zeros < 15 {
                self.empty = (1 << zeros) - 1 + u32::from(bits.take(zeros as u32)?);
                break;
            } else {
                k += 16;
            }
        }
        Ok(())
    }

    /// One more bit of values that are known, and values that were below the bits before (G.1.2.3).
    fn refine<R: BufRead>(
        &mut self,
        bits: &mut Bits<R>,
        ac: &Huffman,
        band: Band,
        block: &mut Block,
    ) -> Result<(), BadPicture> {
        let bit = 1_i16 << band.low;
        let mut k = band.first;
        while self.empty == 0 && k <= band.last {
            let (mut zeros, length) = split(bits.value(ac)?);
            let value = match length {
                0 if zeros < 15 => {
                    self.empty = (1 << zeros) + u32::from(bits.take(zeros as u32)?);
                    break;
                }
                0 => 0,
                1 if bits.take(1)? == 1 => bit,
                1 => -bit,
                _ => return Err(BadPicture::Broken),
            };
            while k <= band.last {
                let known = &mut block[at(k)];
                k += 1;
                if *known != 0 {
                    more_exact(bits, known, bit)?;
                } else if zeros == 0 {
                    *known = value;
                    break;
                } else {
                    zeros -= 1;
                }
            }
        }
        if self.empty > 0 {
            self.empty -= 1;
            for k in k..=band.last {
                let known = &mut block[at(k)];
                if *known != 0 {
                    more_exact(bits, known, bit)?;
                }
            }
        }
        Ok(())
    }
}

fn more_exact<R: BufRead>(bits: &mut Bits<R>, known: &mut i16, bit: i16) -> Result<(), BadPicture> {
    if bits.take(1)? == 1 && *known & bit == 0 {
        *known = known.wrapping_add(if *known > 0 { bit } else { -bit });
    }
    Ok(())
}

/// Zeros before a value, and its length.
fn split(value: u8) -> (usize, u32) {
    (usize::from(value >> 4), u32::from(value & 15))
}

/// The pixels of a block, into the rows of `out`, which are `stride` apart.
pub(super) fn pixels(block: &Block, weights: &[u16; 64], out: &mut [u8], stride: usize) {
    let mut values = [0_f32; 64];
    for ((value, &coefficient), &weight) in values.iter_mut().zip(block).zip(weights) {
        *value = f32::from(coefficient) * f32::from(weight);
    }
    if block[1..].iter().all(|&coefficient| coefficient == 0) {
        let flat = byte(values[0] / 8.0);
        for row in out.chunks_mut(stride).take(8) {
            row.iter_mut().take(8).for_each(|pixel| *pixel = flat);
        }
        return;
    }
    for x in 0..8 {
        let column = [0, 8, 16, 24, 32, 40, 48, 56].map(|y| values[x + y]);
        for (y, value) in unwaved(column).into_iter().enumerate() {
            values[y * 8 + x] = value;
        }
    }
    let (rows, _) = values.as_chunks::<8>();
    for (row, out) in rows.iter().zip(out.chunks_mut(stride)) {
        for (value, pixel) in unwaved(*row).into_iter().zip(out) {
            *pixel = byte(value);
        }
    }
}

fn byte(value: f32) -> u8 {
    // The cast keeps to the range.
    (value + 128.5) as u8
}

/// cos(k π / 16).
const C1: f32 = 0.980_785_25;
const C2: f32 = 0.923_879_5;
const C3: f32 = 0.831_469_6;
const C4: f32 = FRAC_1_SQRT_2;
const C5: f32 = 0.555_570_24;
const C6: f32 = 0.382_683_43;
const C7: f32 = 0.195_090_32;

/// The inverse cosine transform of one line: even waves are the same from both ends, odd ones turn their sign.
fn unwaved(s: [f32; 8]) -> [f32; 8] {
    let (p0, p1) = ((s[0] + s[4]) * C4, (s[0] - s[4]) * C4);
    let (p2, p3) = (s[2] * C2 + s[6] * C6, s[2] * C6 - s[6] * C2);
    let even = [p0 + p2, p1 + p3, p1 - p3, p0 - p2];
    let odd = [
        s[1] * C1 + s[3] * C3 + s[5] * C5 + s[7] * C7,
        s[1] * C3 - s[3] * C7 - s[5] * C1 - s[7] * C5,
        s[1] * C5 - s[3] * C1 + s[5] * C7 + s[7] * C3,
        s[1] * C7 - s[3] * C5 + s[5] * C3 - s[7] * C1,
    ];
    let mut line = [0.0; 8];
    for n in 0..4 {
        line[n] = (even[n] + odd[n]) / 2.0;
        line[7 - n] = (even[n] - odd[n]) / 2.0;
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waves_are_what_their_definition_says() {
        let mut block = [0; 64];
        for (n, value) in block.iter_mut().enumerate() {
            *value = (n as i16 * 37 % 41 - 20) / (1 + n as i16 / 8);
        }
        let mut out = [0; 64];
        pixels(&block, &[2; 64], &mut out, 8);
        for (at, &pixel) in out.iter().enumerate() {
            let (x, y) = ((at % 8) as f64, (at / 8) as f64);
            let mut sum = 0.0;
            for (n, &value) in block.iter().enumerate() {
                let (u, v) = ((n % 8) as f64, (n / 8) as f64);
                let scale = |n: f64| if n == 0.0 { 0.5_f64.sqrt() } else { 1.0 };
                let wave = |x: f64, u: f64| ((2.0 * x + 1.0) * u * std::f64::consts::PI / 16.0).cos();
                sum += scale(u) * scale(v) * f64::from(value) * 2.0 * wave(x, u) * wave(y, v) / 4.0;
            }
            let expected = (sum + 128.0).clamp(0.0, 255.0);
            assert!((f64::from(pixel) - expected).abs() <= 0.51, "{at}: {pixel}, {expected}");
        }
    }

    #[test]
    fn every_place_is_met_once() {
        let mut met = ZIGZAG;
        met.sort_unstable();
        assert!((0..64).eq(met));
    }
}
