//! Candles as PNG, at two pixels for each of the picture. Pure.

use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};

use super::{
    draw::Bar,
    picture::{BACKGROUND, Color, HEIGHT, Shape, Text, WIDTH, shapes},
};

/// The tenths of a pixel of the picture that one pixel covers.
const TENTHS: i64 = 5;

/// The bytes of a pixel: red, green and blue.
const BYTES: usize = 3;

/// The character in the place of one that the font lacks.
const MISSING: char = '?';

/// Returns a chart of candles with a title, as the bytes of a file.
///
/// # Errors
///
/// The picture cannot be encoded.
pub(super) fn png(title: &str, bars: &[Bar]) -> Result<Vec<u8>, png::EncodingError> {
    let mut canvas = Canvas::new(WIDTH / TENTHS, HEIGHT / TENTHS);
    for shape in shapes(title, bars) {
        match shape {
            Shape::Rectangle { x, y, width, height, color } => {
                canvas.fill((x / TENTHS, y / TENTHS), (width / TENTHS, height / TENTHS), color);
            }
            Shape::Line { from, to, color } => {
                // A pixel of the picture to both sides of nothing: two of these.
                let size = ((to.0 - from.0) / TENTHS + 2, (to.1 - from.1) / TENTHS + 2);
                canvas.fill((from.0 / TENTHS - 1, from.1 / TENTHS - 1), size, color);
            }
            Shape::Text(text) => canvas.text(&text),
        }
    }
    canvas.encoded()
}

/// The pixels, row by row.
struct Canvas {
    width: i64,
    height: i64,
    pixels: Vec<u8>,
}

/// Returns red, green and blue.
fn parts(color: Color) -> [u8; BYTES] {
    let [_, red, green, blue] = color.to_be_bytes();
    [red, green, blue]
}

impl Canvas {
    fn new(width: i64, height: i64) -> Self {
        let count = usize::try_from(width * height).unwrap_or_default();
        Self { width, height, pixels: parts(BACKGROUND).repeat(count) }
    }

    /// Returns a pixel; `None` outside.
    fn pixel(&mut self, x: i64, y: i64) -> Option<&mut [u8]> {
        if x < 0 || x >= self.width || y < 0 || y >= self.height {
            return None;
        }
        let at = usize::try_from(y * self.width + x).ok()? * BYTES;
        self.pixels.get_mut(at..at + BYTES)
    }

    /// Fills a rectangle, of a pixel at least.
    fn fill(&mut self, (left, top): (i64, i64), (width, height): (i64, i64), color: Color) {
        for y in top..top + height.max(1) {
            for x in left..left + width.max(1) {
                self.mix(x, y, color, u8::MAX);
            }
        }
    }

    /// Lays a color over a pixel: 255 covers it.
    fn mix(&mut self, x: i64, y: i64, color: Color, cover: u8) {
        let Some(pixel) = self.pixel(x, y) else { return };
        let cover = u16::from(cover);
        for (below, above) in pixel.iter_mut().zip(parts(color)) {
            let sum = u16::from(above) * cover + u16::from(*below) * (255 - cover);
            *below = u8::try_from(sum / 255).unwrap_or(u8::MAX);
        }
    }

    fn text(&mut self, text: &Text) {
        let weight = FontWeight::Regular;
        let size = if text.is_large { RasterHeight::Size32 } else { RasterHeight::Size24 };
        let pixels = |length: usize| i64::try_from(length).unwrap_or_default();
        let advance = pixels(get_raster_width(weight, size));
        let length = advance.saturating_mul(pixels(text.letters.chars().count()));
        let mut x = text.x / TENTHS - if text.ends { length } else { 0 };
        // Four fifths of a letter are above the line on which it stands.
        let top = text.y / TENTHS - pixels(size.val()) * 4 / 5;
        for character in text.letters.chars() {
            if x >= self.width {
                return;
            }
            let letter = get_raster(character, weight, size);
            if let Some(letter) = letter.or_else(|| get_raster(MISSING, weight, size)) {
                for (y, row) in (top..).zip(letter.rows()) {
                    for (x, cover) in (x..).zip(row) {
                        self.mix(x, y, text.color, *cover);
                    }
                }
            }
            x += advance;
        }
    }

    fn encoded(self) -> Result<Vec<u8>, png::EncodingError> {
        let size = |length: i64| u32::try_from(length).unwrap_or_default();
        let mut file = Vec::new();
        let mut encoder = png::Encoder::new(&mut file, size(self.width), size(self.height));
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&self.pixels)?;
        writer.finish()?;
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::picture::test_bar, *};

    /// Decodes a file, and returns its size and the number of pixels of a color in a rectangle.
    fn count(file: &[u8], color: Color, rows: std::ops::Range<usize>) -> ((u32, u32), usize) {
        let mut reader = png::Decoder::new(std::io::Cursor::new(file)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        let row = info.width as usize * BYTES;
        let within = &pixels[rows.start * row..rows.end * row];
        let found = within.chunks(BYTES).filter(|pixel| **pixel == parts(color)).count();
        ((info.width, info.height), found)
    }

    #[test]
    fn candles_and_letters_are_drawn_in_their_places() {
        let bars = [test_bar(400_000, 500_000), test_bar(500_000, 450_000)];
        let file = png("KXA-1 ° é 漢\u{1b} of this market", &bars).unwrap();
        let (size, up) = count(&file, 0x003f_b68b, 112..1_000);
        assert_eq!(size, (1_920, 1_080));
        let (_, down) = count(&file, 0x00e0_575b, 112..1_000);
        // A body of 100,000 and one of 50,000 of the same width, with wicks of 10,000.
        assert!(up > 3 * down / 2 && down > 100_000, "{up} {down}");
        let (_, title) = count(&file, 0x00e6_e9ef, 30..80);
        let (_, elsewhere) = count(&file, 0x00e6_e9ef, 112..1_080);
        assert!(title > 200 && elsewhere == 0, "{title} {elsewhere}");
        let (_, axis) = count(&file, 0x008a_93a5, 1_030..1_075);
        assert!(axis > 200, "{axis}");
    }

    #[test]
    fn what_does_not_fit_is_cut() {
        let file = png(&"x".repeat(10_000), &[]).unwrap();
        assert_eq!(count(&file, 0x003f_b68b, 0..1_080).1, 0);
        let many: Vec<Bar> = (0..2_000).map(|_| test_bar(1, 999_999)).collect();
        assert!(png("t", &many).is_ok());
    }
}
