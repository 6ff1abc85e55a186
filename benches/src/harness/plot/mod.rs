//! The plots, each as SVG and as PNG.
//!
//! A machine that measures often has no fonts, so the one that is used is built in.

mod curve;
mod panels;
mod percentiles;
mod throughput;
mod timeline;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Once;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::register_font;

pub use curve::{Curve, Line};
pub use panels::Panels;
pub use percentiles::{Named, PercentilePlot};
pub use throughput::ThroughputPlot;
pub use timeline::Timeline;

/// A plot's size as SVG, in pixels; as PNG it has twice as many each way.
const SIZE: (u32, u32) = (960, 560);
const PNG_SCALE: f64 = 2.0;
/// The family under which the built-in font is registered, and which a reader of the SVG chooses for itself.
const FONT: &str = "sans-serif";

const INK: RGBColor = RGBColor(0x22, 0x2b, 0x38);
const FAINT: RGBColor = RGBColor(0xdd, 0xe1, 0xe6);
/// Colours that can be told apart also by those who see few.
const COLOURS: [RGBColor; 6] = [
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0x56, 0xb4, 0xe9),
];

/// The colour of the series at a place.
fn colour(at: usize) -> RGBColor {
    COLOURS[at % COLOURS.len()]
}

/// What a backend makes of a failure.
type Failure<DB> = DrawingAreaErrorKind<<DB as DrawingBackend>::ErrorType>;

/// Something that can be drawn on any backend.
pub trait Plot {
    /// Draws it. `scale` is how many pixels make one of the size at which lines and letters are given.
    ///
    /// # Errors
    /// If the backend fails.
    fn draw<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>, scale: f64) -> Result<(), Failure<DB>>;

    /// Whether there is anything to draw.
    fn is_empty(&self) -> bool;

    /// How many pixels wide and high it is as SVG; as PNG twice as many each way.
    fn size(&self) -> (u32, u32) {
        SIZE
    }
}

/// Writes a plot as `stem.svg` and `stem.png` into a directory, which is made if need be; says where they are.
/// Of a plot without data nothing is written.
///
/// # Errors
/// If a file cannot be written.
pub fn save(plot: &impl Plot, directory: &Path, stem: &str) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    if plot.is_empty() {
        return Ok(Vec::new());
    }
    register();
    std::fs::create_dir_all(directory)?;
    let (svg, png) = (directory.join(format!("{stem}.svg")), directory.join(format!("{stem}.png")));
    render(plot, SVGBackend::new(&svg, plot.size()), 1.0)?;
    bitmap(plot, &png)?;
    Ok(vec![svg, png])
}

/// Writes a plot as PNG only.
///
/// # Errors
/// If the file cannot be written.
pub fn picture(plot: &impl Plot, path: &Path) -> Result<(), Box<dyn Error>> {
    register();
    bitmap(plot, path)
}

fn bitmap(plot: &impl Plot, path: &Path) -> Result<(), Box<dyn Error>> {
    let (width, height) = plot.size();
    let size = ((f64::from(width) * PNG_SCALE) as u32, (f64::from(height) * PNG_SCALE) as u32);
    render(plot, BitMapBackend::new(path, size), PNG_SCALE)
}

fn render<DB: DrawingBackend>(plot: &impl Plot, backend: DB, scale: f64) -> Result<(), Box<dyn Error>> {
    let area = backend.into_drawing_area();
    area.fill(&WHITE).map_err(in_words)?;
    plot.draw(&area, scale).map_err(in_words)?;
    area.present().map_err(in_words)
}

fn in_words(error: impl std::fmt::Display) -> Box<dyn Error> {
    format!("a plot cannot be drawn: {error}").into()
}

fn register() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for (style, bytes) in
            [(FontStyle::Normal, dejavu::sans::regular()), (FontStyle::Bold, dejavu::sans::bold())]
        {
            assert!(register_font(FONT, style, bytes).is_ok(), "the built-in font can be read");
        }
    });
}

fn px(size: f64, scale: f64) -> u32 {
    (size * scale).round() as u32
}

fn text(size: f64, scale: f64) -> TextStyle<'static> {
    (FONT, size * scale).into_font().color(&INK)
}

/// The title over a plot, the line below it that says what was measured, and what remains for the plot.
fn titled<DB: DrawingBackend>(
    area: &DrawingArea<DB, Shift>,
    title: &str,
    subtitle: &str,
    scale: f64,
) -> Result<DrawingArea<DB, Shift>, Failure<DB>> {
    let at = |y: f64| (px(20.0, scale) as i32, px(y, scale) as i32);
    let bold = (FONT, 19.0 * scale, FontStyle::Bold).into_font().color(&INK);
    area.draw(&Text::new(title.to_owned(), at(14.0), bold))?;
    area.draw(&Text::new(subtitle.to_owned(), at(40.0), text(13.0, scale).color(&INK.mix(0.75))))?;
    let (_, rest) = area.split_vertically(px(60.0, scale));
    Ok(rest)
}

/// What a series looks like beside its name.
struct Key {
    name: String,
    colour: RGBAColor,
    width: u32,
    dash: Option<(u32, u32)>,
}

/// Draws the names of the series on the right, one below the other; what remains is for the plot.
fn with_keys<DB: DrawingBackend>(
    area: &DrawingArea<DB, Shift>,
    keys: &[Key],
    scale: f64,
) -> Result<DrawingArea<DB, Shift>, Failure<DB>> {
    let width = keys.iter().map(|key| key.name.chars().count()).max().unwrap_or(0) as f64;
    let room = px(60.0 + 7.4 * width, scale);
    let whole = area.dim_in_pixel().0;
    let (plot, beside) = area.split_horizontally(whole.saturating_sub(room));
    for (at, key) in keys.iter().enumerate() {
        let y = px(24.0 + 22.0 * at as f64, scale) as i32;
        let (from, to) = (px(4.0, scale) as i32, px(34.0, scale) as i32);
        let style =
            ShapeStyle { color: key.colour, filled: true, stroke_width: px(f64::from(key.width), scale) };
        match key.dash {
            None => beside.draw(&PathElement::new([(from, y), (to, y)], style))?,
            Some((on, off)) => {
                let (on, off) = (px(f64::from(on), scale) as i32, px(f64::from(off), scale) as i32);
                let mut x = from;
                while x < to {
                    beside.draw(&PathElement::new([(x, y), ((x + on).min(to), y)], style))?;
                    x += on + off;
                }
            }
        }
        let label = (px(42.0, scale) as i32, y - px(5.0, scale) as i32);
        beside.draw(&Text::new(key.name.clone(), label, text(13.0, scale)))?;
    }
    Ok(plot)
}

/// The powers of ten around some values, one more where a value is close to the edge.
fn decades(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (mut low, mut high) = (f64::INFINITY, 0.0_f64);
    for value in values.filter(|value| *value > 0.0 && value.is_finite()) {
        low = low.min(value);
        high = high.max(value);
    }
    if low > high {
        return (1.0, 10.0);
    }
    let power = |exponent: f64| 10.0_f64.powf(exponent);
    let (low, high) = (power(low.log10().floor()), power(high.log10().ceil()));
    if low < high { (low, high) } else { (low, low * 10.0) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::harness::slots::histogram;

    fn line(name: &str) -> Line {
        let points = [(1e3, 100.0, 500.0, 2_000.0), (1e5, 150.0, 900.0, 9_000.0)];
        Line { name: name.to_owned(), points: points.to_vec() }
    }

    #[test]
    fn every_plot_is_written_twice_and_has_its_text_in_it() {
        let directory = tempfile::tempdir().unwrap();
        let mut all = histogram();
        (1..10_000).for_each(|nanos| all.record(nanos * 100).unwrap());
        let percentiles = PercentilePlot {
            title: "percentiles".to_owned(),
            subtitle: "a test".to_owned(),
            series: vec![Named { name: "record".to_owned(), histogram: all }],
        };
        let timeline = Timeline {
            title: "timeline".to_owned(),
            subtitle: "a test".to_owned(),
            slots: (0..8).map(|at| (Duration::from_millis(250 * at), [10.0, 20.0, 30.0, 40.0])).collect(),
            epochs: vec![Duration::from_secs(1)],
        };
        let curve = Curve {
            title: "curve".to_owned(),
            subtitle: "a test".to_owned(),
            lines: vec![line("continuous"), line("micro-batch asap")],
        };
        let throughput = ThroughputPlot {
            title: "throughput".to_owned(),
            subtitle: "a test".to_owned(),
            triggers: vec![("asap".to_owned(), 1e6), ("100ms".to_owned(), 2e6)],
            level: Some(("continuous".to_owned(), 1.5e6)),
        };
        let saved = [
            save(&percentiles, directory.path(), "percentiles").unwrap(),
            save(&timeline, directory.path(), "timeline").unwrap(),
            save(&curve, directory.path(), "curve").unwrap(),
            save(&throughput, directory.path(), "throughput").unwrap(),
        ];
        for (paths, title) in saved.iter().zip(["percentiles", "timeline", "curve", "throughput"]) {
            let svg = std::fs::read_to_string(&paths[0]).unwrap();
            assert!(svg.contains(title) && svg.contains("a test"), "{title}");
            assert!(std::fs::read(&paths[1]).unwrap().starts_with(b"\x89PNG"), "{title}");
        }
        let nothing = Curve { lines: Vec::new(), ..curve };
        assert!(save(&nothing, directory.path(), "nothing").unwrap().is_empty());
    }

    #[test]
    fn letters_leave_ink_in_a_bitmap_without_any_font_of_the_system() {
        register();
        let mut pixels = vec![0_u8; 200 * 60 * 3];
        {
            let area = BitMapBackend::with_buffer(&mut pixels, (200, 60)).into_drawing_area();
            area.fill(&WHITE).unwrap();
            area.draw(&Text::new("p99.9", (10, 10), text(30.0, 1.0))).unwrap();
            area.present().unwrap();
        }
        let dark = pixels.chunks(3).filter(|pixel| pixel[0] < 128).count();
        assert!((200..4_000).contains(&dark), "{dark}");
    }

    #[test]
    fn axes_begin_and_end_at_powers_of_ten() {
        let ends = |values: &[f64]| decades(values.iter().copied());
        assert_eq!(ends(&[]), (1.0, 10.0));
        assert_eq!(ends(&[30.0, 4_000.0, 0.0]), (10.0, 10_000.0));
        assert_eq!(ends(&[100.0]), (100.0, 1_000.0));
    }
}
