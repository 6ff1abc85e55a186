//! A drawing in SVG: boxes, lines, arrows, dots and text.

use std::fmt::Write;

pub(crate) const INK: &str = "#1f2933";
pub(crate) const GREY: &str = "#7b8794";
pub(crate) const BLUE: &str = "#2563a8";
pub(crate) const PALE_BLUE: &str = "#dbe8f6";
pub(crate) const PALE_GREEN: &str = "#def0e0";
pub(crate) const PALE_GREY: &str = "#e4e7eb";
pub(crate) const RED: &str = "#c0392b";
pub(crate) const GREEN: &str = "#2e7d4f";

/// A drawing of a fixed size on a white ground, so that it shows on dark pages too.
pub(crate) struct Svg {
    width: i32,
    height: i32,
    body: String,
}

impl Svg {
    pub(crate) fn new(width: i32, height: i32) -> Self {
        Svg { width, height, body: String::new() }
    }

    pub(crate) fn rect(&mut self, (x, y): (i32, i32), (width, height): (i32, i32), fill: &str, stroke: &str) {
        writeln!(
            self.body,
            r#"<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="4" fill="{fill}" stroke="{stroke}"/>"#
        )
        .unwrap();
    }

    /// Text around `x` (`middle`), from it (`start`) or up to it (`end`); `y` is the base line.
    pub(crate) fn text(&mut self, (x, y): (i32, i32), anchor: &str, fill: &str, text: &str) {
        writeln!(self.body, r#"<text x="{x}" y="{y}" text-anchor="{anchor}" fill="{fill}">{text}</text>"#)
            .unwrap();
    }

    pub(crate) fn line(&mut self, (x1, y1): (i32, i32), (x2, y2): (i32, i32), stroke: &str, width: i32) {
        writeln!(
            self.body,
            r#"<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{stroke}" stroke-width="{width}"/>"#
        )
        .unwrap();
    }

    pub(crate) fn dot(&mut self, (x, y): (i32, i32), fill: &str) {
        writeln!(self.body, r#"<circle cx="{x}" cy="{y}" r="6" fill="{fill}"/>"#).unwrap();
    }

    /// A line with a head at its second end.
    pub(crate) fn arrow(&mut self, from: (i32, i32), to: (i32, i32), stroke: &str) {
        let (dx, dy) = (f64::from(to.0 - from.0), f64::from(to.1 - from.1));
        let length = dx.hypot(dy).max(1.0);
        let (ux, uy) = (dx / length * 9.0, dy / length * 9.0);
        let corner =
            |side: f64| (f64::from(to.0) - ux + side * uy * 0.5, f64::from(to.1) - uy - side * ux * 0.5);
        let ((ax, ay), (bx, by)) = (corner(1.0), corner(-1.0));
        self.line(from, to, stroke, 2);
        writeln!(
            self.body,
            r#"<path d="M {} {} L {ax:.1} {ay:.1} L {bx:.1} {by:.1} Z" fill="{stroke}"/>"#,
            to.0, to.1
        )
        .unwrap();
    }

    /// A box with lines of text in its middle.
    pub(crate) fn labelled(
        &mut self,
        (x, y): (i32, i32),
        (width, height): (i32, i32),
        fill: &str,
        lines: &[&str],
    ) {
        self.rect((x, y), (width, height), fill, INK);
        let first = y + height / 2 + 5 - 9 * (lines.len() as i32 - 1);
        for (line, y) in lines.iter().zip((first..).step_by(18)) {
            self.text((x + width / 2, y), "middle", INK, line);
        }
    }

    pub(crate) fn finish(self) -> String {
        let Svg { width, height, body } = self;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" font-family=\"Helvetica, Arial, sans-serif\" font-size=\"14\">\n\
             <rect x=\"0\" y=\"0\" width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n{body}</svg>\n"
        )
    }
}
