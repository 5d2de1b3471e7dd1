//! JPEG, row by row (ITU T.81; JFIF; Exif): the photos of phones, which are larger than the memory that a picture may take.
//!
//! The decoder of the `image` crate holds the file and all pixels. This one holds a row of blocks and hands rows to a
//! [`Canvas`]; of a progressive picture, whose every scan adds to all blocks, it holds the coefficients.
//! Never: decodes what is not made of the Huffman codes of one or three components with eight bits, as cameras write them.
//! Bounds: [`limits::IMAGE_PIXELS_MAX`], [`limits::IMAGE_BYTES_MAX`], [`limits::JPEG_SCANS_MAX`].

mod bits;
mod block;

use std::io::{self, BufRead};

use image::DynamicImage;
use image::metadata::Orientation;

use super::canvas::Canvas;
use super::picture::{BadPicture, Size};
use crate::limits;
use bits::{Bits, Huffman};
use block::{Band, Block, Run, ZIGZAG};

/// A JPEG, read up to its first scan.
pub(super) struct Jpeg<R> {
    bits: Bits<R>,
    frame: Option<Frame>,
    /// By their number; of the waves, row by row.
    weights: [Option<Box<[u16; 64]>>; 4],
    dc: [Option<Huffman>; 4],
    ac: [Option<Huffman>; 4],
    /// Units between two restarts; 0: there are none.
    restart: u32,
    /// What Adobe's programs say about the colours: 0 is RGB.
    adobe: Option<u8>,
    turn: Orientation,
    profile: Option<Vec<u8>>,
}

/// What the frame says.
#[derive(Clone)]
struct Frame {
    size: Size,
    progressive: bool,
    components: Vec<Component>,
    /// Units of the picture, each of `8 * wide` by `8 * high` pixels.
    across: usize,
    down: usize,
    wide: usize,
    high: usize,
}

/// A channel of the colours.
#[derive(Clone)]
struct Component {
    id: u8,
    /// Blocks in a unit.
    wide: usize,
    high: usize,
    weights: usize,
    /// Blocks in a row of units.
    stride: usize,
}

/// What a scan holds.
struct Scan {
    /// The component, and the tables of its means and of its other values.
    parts: Vec<(usize, usize, usize)>,
    band: Band,
}

impl<R: BufRead> Jpeg<R> {
    /// Reads up to the first scan.
    ///
    /// # Errors
    /// It is no JPEG, or one that is not decoded here; it has more than [`limits::IMAGE_PIXELS_MAX`].
    pub(super) fn open(from: R) -> Result<Self, BadPicture> {
        let mut jpeg = Self {
            bits: Bits::new(from),
            frame: None,
            weights: Default::default(),
            dc: Default::default(),
            ac: Default::default(),
            restart: 0,
            adobe: None,
            turn: Orientation::NoTransforms,
            profile: None,
        };
        if !jpeg.segments()? {
            return Err(BadPicture::Broken);
        }
        Ok(jpeg)
    }

    fn frame(&self) -> Result<&Frame, BadPicture> {
        self.frame.as_ref().ok_or(BadPicture::Broken)
    }

    /// The size before the turn.
    pub(super) fn size(&self) -> Result<Size, BadPicture> {
        Ok(self.frame()?.size)
    }

    /// Bytes of a pixel in a decoder that holds all of them, with the coefficients of a progressive one.
    pub(super) fn bytes_each(&self) -> Result<u64, BadPicture> {
        let frame = self.frame()?;
        let channels = frame.components.len() as u64;
        Ok(if frame.progressive { 3 * channels } else { channels })
    }

    /// Its colour profile, if it is a short one.
    pub(super) fn profile(&mut self) -> Option<Vec<u8>> {
        self.profile.take()
    }

    /// Reads segments up to a scan; whether there is one.
    fn segments(&mut self) -> Result<bool, BadPicture> {
        loop {
            let code = self.bits.marker()?;
            match code {
                0x01 | 0xd0..=0xd8 => continue,
                0xd9 => return Ok(false),
                0xda => return Ok(true),
                _ => {}
            }
            let mut length = [0; 2];
            self.bits.whole(&mut length)?;
            let length = u16::from_be_bytes(length).checked_sub(2).ok_or(BadPicture::Broken)?;
            if !matches!(code, 0xc0..=0xcf | 0xdb | 0xdd | 0xe1 | 0xe2 | 0xee) {
                self.bits.skip(length.into())?;
                continue;
            }
            let mut segment = vec![0; usize::from(length)];
            self.bits.whole(&mut segment)?;
            match code {
                0xc0..=0xc2 if self.frame.is_none() => self.frame = Some(Frame::of(&segment, code == 0xc2)?),
                0xc4 => self.codes(&segment)?,
                0xdb => self.table_of_weights(&segment)?,
                0xdd => self.restart = u32::from(u16_at(&segment, 0)?),
                0xe1 => {
                    let exif = segment.strip_prefix(b"Exif\0\0");
                    self.turn = exif.and_then(Orientation::from_exif_chunk).unwrap_or(self.turn);
                }
                // The first and only part of it.
                0xe2 => {
                    let profile = segment.strip_prefix(b"ICC_PROFILE\0\x01\x01").map(<[u8]>::to_vec);
                    self.profile = profile.or_else(|| self.profile.take());
                }
                0xee => self.adobe = segment.strip_prefix(b"Adobe").and_then(|rest| rest.get(6).copied()),
                // Arithmetic codes, differences, no loss: nobody sends them.
                _ => return Err(BadPicture::Broken),
            }
        }
    }

    fn codes(&mut self, mut segment: &[u8]) -> Result<(), BadPicture> {
        while let Some((&place, rest)) = segment.split_first() {
            let (counts, rest) = rest.split_first_chunk::<16>().ok_or(BadPicture::Broken)?;
            let total = counts.iter().map(|&count| usize::from(count)).sum();
            let (values, rest) = rest.split_at_checked(total).ok_or(BadPicture::Broken)?;
            let tables = if place < 16 { &mut self.dc } else { &mut self.ac };
            *tables.get_mut(usize::from(place & 15)).ok_or(BadPicture::Broken)? =
                Some(Huffman::new(counts, values.to_vec())?);
            segment = rest;
        }
        Ok(())
    }

    fn table_of_weights(&mut self, mut segment: &[u8]) -> Result<(), BadPicture> {
        while let Some((&place, rest)) = segment.split_first() {
            let each = if place < 16 { 1 } else { 2 };
            let (values, rest) = rest.split_at_checked(64 * each).ok_or(BadPicture::Broken)?;
            let mut weights = Box::new([0; 64]);
            for (value, &at) in values.chunks_exact(each).zip(&ZIGZAG) {
                weights[usize::from(at)] = value.iter().fold(0, |value, &byte| value << 8 | u16::from(byte));
            }
            *self.weights.get_mut(usize::from(place & 15)).ok_or(BadPicture::Broken)? = Some(weights);
            segment = rest;
        }
        Ok(())
    }

    /// Reads what stands before the bits of a scan (B.2.3).
    fn scan(&mut self) -> Result<Scan, BadPicture> {
        let mut length = [0; 2];
        self.bits.whole(&mut length)?;
        let length = u16::from_be_bytes(length).checked_sub(2).ok_or(BadPicture::Broken)?;
        let mut head = vec![0; usize::from(length)];
        self.bits.whole(&mut head)?;
        let frame = self.frame()?;
        let (&count, rest) = head.split_first().ok_or(BadPicture::Broken)?;
        let (parts, rest) = rest.split_at_checked(2 * usize::from(count)).ok_or(BadPicture::Broken)?;
        let [first, last, bits] = *rest.first_chunk::<3>().ok_or(BadPicture::Broken)?;
        let mut scan = Scan {
            parts: Vec::with_capacity(usize::from(count)),
            band: Band {
                first: usize::from(first),
                last: usize::from(last),
                high: u32::from(bits >> 4),
                low: u32::from(bits & 15),
            },
        };
        for &[id, tables] in parts.as_chunks::<2>().0 {
            let at = frame.components.iter().position(|component| component.id == id).ok_or(BadPicture::Broken)?;
            if scan.parts.iter().any(|(other, ..)| *other == at) {
                return Err(BadPicture::Broken);
            }
            scan.parts.push((at, usize::from(tables >> 4), usize::from(tables & 15)));
        }
        let Band { first, last, high, low } = scan.band;
        let is_band = match first {
            0 => last == 0,
            _ => first <= last && last < 64 && count == 1,
        };
        let is_right = !frame.progressive || is_band && low < 14 && (high == 0 || high == low + 1);
        if scan.parts.is_empty() || !is_right { Err(BadPicture::Broken) } else { Ok(scan) }
    }

    /// The picture, upright and small enough to be kept.
    ///
    /// # Errors
    /// It is broken, or would take more than [`limits::IMAGE_BYTES_MAX`].
    pub(super) fn draw(mut self) -> Result<DynamicImage, BadPicture> {
        let frame = self.frame()?.clone();
        let channels = frame.components.len();
        if channels != 1 && channels != 3 {
            return Err(BadPicture::TooManyPixels);
        }
        let canvas_bytes = Canvas::bytes(frame.size, channels as u64);
        let scan = self.scan()?;
        let rgb = self.adobe == Some(0) || frame.components.iter().map(|component| component.id).eq(*b"RGB");
        if !frame.progressive && scan.parts.len() == channels {
            let mut canvas = Canvas::new(frame.size, channels, self.turn);
            self.stream(&frame, &scan, rgb, &mut canvas)?;
            return canvas.finish().ok_or(BadPicture::Broken);
        }
        let blocks = |component: &Component| component.stride * component.high * frame.down;
        let total: usize = frame.components.iter().map(blocks).sum();
        if (total * size_of::<Block>()) as u64 + canvas_bytes > limits::IMAGE_BYTES_MAX {
            return Err(BadPicture::TooManyPixels);
        }
        let mut planes: Vec<Vec<Block>> =
            frame.components.iter().map(|component| vec![[0; 64]; blocks(component)]).collect();
        self.gather(&frame, scan, &mut planes)?;
        let mut canvas = Canvas::new(frame.size, channels, self.turn);
        let mut strips = Strips::new(&frame, rgb);
        for row in 0..frame.down {
            for (at, (component, plane)) in frame.components.iter().zip(&planes).enumerate() {
                let weights = self.weights_of(component)?;
                let per_row = component.stride * component.high;
                for (n, block) in plane[row * per_row..][..per_row].iter().enumerate() {
                    strips.put(at, n % component.stride, n / component.stride, block, weights);
                }
            }
            strips.draw(&mut canvas);
        }
        canvas.finish().ok_or(BadPicture::Broken)
    }

    fn weights_of(&self, component: &Component) -> Result<&[u16; 64], BadPicture> {
        self.weights.get(component.weights).and_then(Option::as_deref).ok_or(BadPicture::Broken)
    }

    /// The one scan of a sequential picture: every row of units is drawn as soon as it is read.
    fn stream(&mut self, frame: &Frame, scan: &Scan, rgb: bool, canvas: &mut Canvas) -> Result<(), BadPicture> {
        let (mut run, mut strips) = (Run::default(), Strips::new(frame, rgb));
        for row in 0..frame.down {
            for unit in 0..frame.across {
                self.between(&mut run, row * frame.across + unit)?;
                for &(at, dc, ac) in &scan.parts {
                    let component = &frame.components[at];
                    let tables = tables(&self.dc, dc).zip(tables(&self.ac, ac)).ok_or(BadPicture::Broken)?;
                    let weights =
                        self.weights.get(component.weights).and_then(Option::as_deref).ok_or(BadPicture::Broken)?;
                    for n in 0..component.wide * component.high {
                        let mut block = [0; 64];
                        run.whole(&mut self.bits, tables, at, &mut block)?;
                        let x = unit * component.wide + n % component.wide;
                        strips.put(at, x, n / component.wide, &block, weights);
                    }
                }
            }
            strips.draw(canvas);
        }
        Ok(())
    }

    /// All scans, into the blocks of each component.
    fn gather(&mut self, frame: &Frame, first: Scan, planes: &mut [Vec<Block>]) -> Result<(), BadPicture> {
        let mut scan = first;
        for _ in 0..limits::JPEG_SCANS_MAX {
            let mut run = Run::default();
            if let [(at, dc, ac)] = scan.parts[..] {
                // Alone, a component has only the blocks that are seen (A.2.2).
                let component = &frame.components[at];
                let across = frame.blocks_across(component);
                for n in 0..across * frame.blocks_down(component) {
                    self.between(&mut run, n)?;
                    let block = &mut planes[at][n / across * component.stride + n % across];
                    self.add(&mut run, frame, scan.band, (at, dc, ac), block)?;
                }
            } else {
                for unit in 0..frame.across * frame.down {
                    self.between(&mut run, unit)?;
                    for &(at, dc, ac) in &scan.parts {
                        let component = &frame.components[at];
                        for n in 0..component.wide * component.high {
                            let x = unit % frame.across * component.wide + n % component.wide;
                            let y = unit / frame.across * component.high + n / component.wide;
                            let block = &mut planes[at][y * component.stride + x];
                            self.add(&mut run, frame, scan.band, (at, dc, ac), block)?;
                        }
                    }
                }
            }
            if !self.segments()? {
                return Ok(());
            }
            scan = self.scan()?;
        }
        Err(BadPicture::TooManyPixels)
    }

    /// What a scan says of a block.
    fn add(
        &mut self,
        run: &mut Run,
        frame: &Frame,
        band: Band,
        (at, dc, ac): (usize, usize, usize),
        block: &mut Block,
    ) -> Result<(), BadPicture> {
        let (dc, ac) = (tables(&self.dc, dc), tables(&self.ac, ac));
        match (frame.progressive, band.first) {
            (false, _) => run.whole(&mut self.bits, dc.zip(ac).ok_or(BadPicture::Broken)?, at, block),
            (true, 0) => run.first(&mut self.bits, dc, at, band, block),
            (true, _) => run.rest(&mut self.bits, ac.ok_or(BadPicture::Broken)?, band, block),
        }
    }

    /// Before unit `n` of a scan: a restart, if there is one.
    fn between(&mut self, run: &mut Run, n: usize) -> Result<(), BadPicture> {
        if self.restart > 0 && n > 0 && n.is_multiple_of(self.restart as usize) {
            if !matches!(self.bits.marker()?, 0xd0..=0xd7) {
                return Err(BadPicture::Broken);
            }
            *run = Run::default();
        }
        Ok(())
    }
}

fn tables(tables: &[Option<Huffman>; 4], at: usize) -> Option<&Huffman> {
    tables.get(at)?.as_ref()
}

impl Frame {
    /// Of a frame's segment (B.2.2).
    fn of(segment: &[u8], progressive: bool) -> Result<Self, BadPicture> {
        let &[bits, h1, h2, w1, w2, count, ref parts @ ..] = segment else { return Err(BadPicture::Broken) };
        let size = Size { width: u16::from_be_bytes([w1, w2]).into(), height: u16::from_be_bytes([h1, h2]).into() };
        if bits != 8 || size.pixels() == 0 || !matches!(count, 1 | 3 | 4) {
            return Err(BadPicture::Broken);
        }
        if size.pixels() > limits::IMAGE_PIXELS_MAX {
            return Err(BadPicture::TooManyPixels);
        }
        let (parts, _) = parts.as_chunks::<3>();
        let parts = parts.get(..usize::from(count)).ok_or(BadPicture::Broken)?;
        let mut components = Vec::with_capacity(parts.len());
        for &[id, factors, weights] in parts {
            // Alone, a component has no units of several blocks.
            let (wide, high) = if count == 1 { (1, 1) } else { (usize::from(factors >> 4), usize::from(factors & 15)) };
            components.push(Component { id, wide, high, weights: usize::from(weights), stride: 0 });
        }
        let wide = components.iter().map(|component| component.wide).max().unwrap_or(1);
        let high = components.iter().map(|component| component.high).max().unwrap_or(1);
        let fits = |of: usize, most: usize| (1..=4).contains(&of) && most <= 4 && most.is_multiple_of(of);
        if !components.iter().all(|component| fits(component.wide, wide) && fits(component.high, high)) {
            return Err(BadPicture::Broken);
        }
        let across = (size.width as usize).div_ceil(8 * wide);
        let down = (size.height as usize).div_ceil(8 * high);
        for component in &mut components {
            component.stride = across * component.wide;
        }
        Ok(Self { size, progressive, components, across, down, wide, high })
    }

    /// Blocks of a component in which anything is seen.
    fn blocks_across(&self, component: &Component) -> usize {
        (self.size.width as usize * component.wide).div_ceil(self.wide).div_ceil(8)
    }

    fn blocks_down(&self, component: &Component) -> usize {
        (self.size.height as usize * component.high).div_ceil(self.high).div_ceil(8)
    }
}

/// The pixels of one row of units, component by component.
struct Strips<'a> {
    frame: &'a Frame,
    rgb: bool,
    planes: Vec<Vec<u8>>,
    /// A row of a component in the picture's width.
    lines: Vec<Vec<u8>>,
    row: Vec<u8>,
    left: u32,
}

impl<'a> Strips<'a> {
    fn new(frame: &'a Frame, rgb: bool) -> Self {
        let planes = frame.components.iter().map(|component| vec![0; component.stride * component.high * 64]).collect();
        let width = frame.size.width as usize;
        let lines = frame.components.iter().map(|_| vec![0; frame.across * frame.wide * 8]).collect();
        Self { frame, rgb, planes, lines, row: vec![0; width * 3], left: frame.size.height }
    }

    /// The block `x`, `y` of a component.
    fn put(&mut self, component: usize, x: usize, y: usize, block: &Block, weights: &[u16; 64]) {
        let stride = self.frame.components[component].stride * 8;
        if let Some(out) = self.planes[component].get_mut(y * 8 * stride + x * 8..) {
            block::pixels(block, weights, out, stride);
        }
    }

    fn draw(&mut self, canvas: &mut Canvas) {
        for y in 0..8 * self.frame.high {
            if self.left == 0 {
                return;
            }
            self.left -= 1;
            for ((component, plane), line) in self.frame.components.iter().zip(&self.planes).zip(&mut self.lines) {
                let (stride, times) = (component.stride * 8, self.frame.wide / component.wide);
                let from = &plane[y * component.high / self.frame.high * stride..][..stride];
                for (to, &value) in line.chunks_mut(times).zip(from) {
                    to.fill(value);
                }
            }
            let width = self.frame.size.width as usize;
            if let [luma, blue, red] = &self.lines[..] {
                let (pixels, _) = self.row.as_chunks_mut::<3>();
                for (((pixel, &luma), &blue), &red) in pixels.iter_mut().zip(luma).zip(blue).zip(red) {
                    *pixel = if self.rgb { [luma, blue, red] } else { colors(luma, blue, red) };
                }
                canvas.row(&self.row);
            } else {
                canvas.row(&self.lines[0][..width]);
            }
        }
    }
}

/// Red, green and blue (JFIF 1.02).
fn colors(luma: u8, blue: u8, red: u8) -> [u8; 3] {
    // With 16 bits behind the point, and a half to round.
    let luma = i32::from(luma) * 65_536 + 32_768;
    let (blue, red) = (i32::from(blue) - 128, i32::from(red) - 128);
    [luma + 91_881 * red, luma - 22_554 * blue - 46_802 * red, luma + 116_130 * blue]
        .map(|value| (value >> 16).clamp(0, 255) as u8)
}

fn u16_at(segment: &[u8], at: usize) -> Result<u16, BadPicture> {
    segment.get(at..at + 2).map(|two| u16::from_be_bytes([two[0], two[1]])).ok_or(BadPicture::Broken)
}

/// A file that ends too early is the sender's fault, unlike one that cannot be read.
fn whole(read: io::Result<()>) -> Result<(), BadPicture> {
    read.map_err(|error| if error.kind() == io::ErrorKind::UnexpectedEof { BadPicture::Broken } else { error.into() })
}

#[cfg(test)]
mod tests;
