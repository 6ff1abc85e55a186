//! The curve: latency against the rate that is offered, a colour for each way to run.

use plotters::coord::Shift;
use plotters::prelude::*;

use super::{FAINT, Failure, INK, Key, Plot, colour, decades, px, text, titled, with_keys};
use crate::harness::result::{rate, tick};

/// A way to run.
#[derive(Clone, Debug)]
pub struct Line {
    /// Its name.
    pub name: String,
    /// Events a second, and p50, p99 and p99.9 in microseconds.
    pub points: Vec<(f64, f64, f64, f64)>,
}

/// Latency against rate.
#[derive(Clone, Debug)]
pub struct Curve {
    /// What it shows.
    pub title: String,
    /// What was measured.
    pub subtitle: String,
    /// The ways to run.
    pub lines: Vec<Line>,
}

/// The percentiles: name, width, dashes.
const KINDS: [(&str, u32, Option<(u32, u32)>); 3] =
    [("p50", 3, None), ("p99", 2, Some((8, 4))), ("p99.9", 1, Some((2, 3)))];

impl Plot for Curve {
    fn is_empty(&self) -> bool {
        self.lines.iter().all(|line| line.points.is_empty())
    }

    fn draw<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>, scale: f64) -> Result<(), Failure<DB>> {
        let area = titled(area, &self.title, &self.subtitle, scale)?;
        let ways = self.lines.iter().enumerate().map(|(at, line)| Key {
            name: line.name.clone(),
            colour: colour(at).to_rgba(),
            width: 4,
            dash: None,
        });
        let kinds = KINDS.iter().map(|(name, width, dash)| Key {
            name: (*name).to_owned(),
            colour: INK.mix(0.7),
            width: *width,
            dash: *dash,
        });
        let keys: Vec<Key> = ways.chain(kinds).collect();
        let area = with_keys(&area, &keys, scale)?;
        let all = || self.lines.iter().flat_map(|line| &line.points);
        let (slow, fast) = decades(all().map(|point| point.0));
        let (low, high) = decades(all().flat_map(|(_, p50, p99, p999)| [*p50, *p99, *p999]));
        let mut chart = ChartBuilder::on(&area)
            .margin_left(px(8.0, scale))
            .margin_right(px(16.0, scale))
            .margin_top(px(8.0, scale))
            .x_label_area_size(px(46.0, scale))
            .y_label_area_size(px(72.0, scale))
            .build_cartesian_2d((slow..fast).log_scale(), (low..high).log_scale())?;
        chart
            .configure_mesh()
            .bold_line_style(FAINT)
            .light_line_style(TRANSPARENT)
            .axis_style(INK.mix(0.6))
            .label_style(text(12.0, scale))
            .x_label_formatter(&|events| rate(*events))
            .y_label_formatter(&|micros| tick(*micros))
            .x_desc("events a second that were offered")
            .y_desc("latency from due to shown")
            .axis_desc_style(text(13.0, scale))
            .draw()?;
        for (at, line) in self.lines.iter().enumerate() {
            let mut points = line.points.clone();
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
            let of = |kind: usize| {
                points.iter().map(move |(rate, p50, p99, p999)| (*rate, [*p50, *p99, *p999][kind]))
            };
            for (kind, (_, width, dash)) in KINDS.iter().enumerate() {
                let style = colour(at).stroke_width(px(f64::from(*width), scale));
                match dash {
                    None => chart.draw_series(LineSeries::new(of(kind), style))?,
                    Some((on, off)) => {
                        let (on, off) = (px(f64::from(*on), scale), px(f64::from(*off), scale));
                        chart.draw_series(DashedLineSeries::new(of(kind), on, off, style))?
                    }
                };
            }
            let dot = |point| Circle::new(point, px(4.0, scale), colour(at).filled());
            chart.draw_series(of(0).map(dot))?;
        }
        Ok(())
    }
}
