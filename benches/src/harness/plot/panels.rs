//! The grid: p50, p99 and p99.9 against the rate that is offered, a panel each, a colour for each way to run.

use plotters::coord::Shift;
use plotters::prelude::*;

use super::{FAINT, Failure, INK, Plot, colour, decades, px, text, titled};
use crate::harness::grid::{Point, ways};
use crate::harness::result::{rate, tick};

/// How large a panel is, and the lines around the three.
const SIZE: (u32, u32) = (1_200, 520);
const NAMES: [&str; 3] = ["p50", "p99", "p99.9"];

/// The points of one graph with one number of workers.
#[derive(Clone, Debug)]
pub struct Panels {
    /// What it shows.
    pub title: String,
    /// What was measured.
    pub subtitle: String,
    /// Of all ways and rates.
    pub points: Vec<Point>,
}

impl Panels {
    /// The points of a way in the order of their rates: rate, the three percentiles, whether it kept up.
    fn of(&self, way: &str) -> Vec<(f64, [f64; 3], bool)> {
        let mut points: Vec<(f64, [f64; 3], bool)> = Vec::new();
        for point in self.points.iter().filter(|point| point.way == way && point.right) {
            let new = (point.rate as f64, [point.p50, point.p99, point.p999], point.keeps_up);
            // Of a rate that was measured again the last counts.
            points.retain(|(rate, ..)| *rate != new.0);
            points.push(new);
        }
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        points
    }

    /// Around the rates, with room for the markers.
    fn rates(&self) -> (f64, f64) {
        let rates = || self.points.iter().map(|point| point.rate as f64);
        let (low, high) = (rates().fold(f64::INFINITY, f64::min), rates().fold(0.0, f64::max));
        (low / 1.5, high * 1.5)
    }
}

impl Plot for Panels {
    fn is_empty(&self) -> bool {
        self.points.is_empty()
    }

    fn size(&self) -> (u32, u32) {
        SIZE
    }

    fn draw<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>, scale: f64) -> Result<(), Failure<DB>> {
        let area = titled(area, &self.title, &self.subtitle, scale)?;
        let (legend, area) = area.split_vertically(px(26.0, scale));
        let ways = ways(&self.points);
        let mut x = px(20.0, scale) as i32;
        let y = px(12.0, scale) as i32;
        for (at, way) in ways.iter().enumerate() {
            let to = x + px(28.0, scale) as i32;
            legend.draw(&PathElement::new([(x, y), (to, y)], colour(at).stroke_width(px(3.0, scale))))?;
            let label = (to + px(6.0, scale) as i32, y - px(4.0, scale) as i32);
            legend.draw(&Text::new((*way).to_owned(), label, text(13.0, scale)))?;
            x = label.0 + px(24.0 + 7.6 * way.chars().count() as f64, scale) as i32;
        }
        if self.points.iter().any(|point| !point.keeps_up) {
            legend.draw(&Circle::new((x, y), px(4.0, scale), INK.stroke_width(px(1.5, scale))))?;
            let label = (x + px(10.0, scale) as i32, y - px(4.0, scale) as i32);
            legend.draw(&Text::new("fell behind", label, text(13.0, scale)))?;
        }
        let (slow, fast) = self.rates();
        let all = self.points.iter().filter(|point| point.right);
        let (low, high) = decades(all.flat_map(|point| [point.p50, point.p99, point.p999]));
        for (kind, (panel, name)) in area.split_evenly((1, 3)).iter().zip(NAMES).enumerate() {
            let mut chart = ChartBuilder::on(panel)
                .caption(name, text(15.0, scale))
                .margin_left(px(6.0, scale))
                .margin_right(px(14.0, scale))
                .x_label_area_size(px(44.0, scale))
                .y_label_area_size(px(54.0, scale))
                .build_cartesian_2d((slow..fast).log_scale(), (low..high).log_scale())?;
            let mut mesh = chart.configure_mesh();
            mesh.bold_line_style(FAINT)
                .light_line_style(TRANSPARENT)
                .axis_style(INK.mix(0.6))
                .label_style(text(12.0, scale))
                .x_labels(6)
                .x_label_formatter(&|events| rate(*events))
                .y_label_formatter(&|micros| tick(*micros))
                .x_desc("events a second that were offered")
                .axis_desc_style(text(13.0, scale));
            mesh.draw()?;
            for (at, way) in ways.iter().enumerate() {
                let points = self.of(way);
                let value = |(rate, latencies, _): &(f64, [f64; 3], bool)| {
                    (*rate, latencies.get(kind).copied().unwrap_or(low).max(low))
                };
                let style = colour(at).stroke_width(px(2.5, scale));
                chart.draw_series(LineSeries::new(points.iter().map(value), style))?;
                let dots = |style: ShapeStyle| move |point| Circle::new(point, px(4.0, scale), style);
                chart.draw_series(points.iter().map(value).map(dots(colour(at).filled())))?;
                let behind = || points.iter().filter(|point| !point.2).map(value);
                chart.draw_series(behind().map(dots(WHITE.filled())))?;
                chart.draw_series(behind().map(dots(colour(at).stroke_width(px(1.5, scale)))))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_has_each_rate_once_and_in_order() {
        let point = |rate, p50, right| Point {
            point: "map".to_owned(),
            way: "continuous".to_owned(),
            workers: 1,
            rate,
            rounds: 3,
            p50,
            p99: 2.0,
            p999: 3.0,
            p50_range: (p50, p50),
            p99_range: (2.0, 2.0),
            generator_p99: 1.0,
            cpu_per_million: 1.0,
            disturbed: 0.0,
            keeps_up: rate < 10_000,
            right,
        };
        let points = vec![
            point(10_000, 1.0, true),
            point(1_000, 1.0, true),
            point(1_000, 9.0, true),
            point(100, 1.0, false),
        ];
        let panels = Panels { title: String::new(), subtitle: String::new(), points };
        let of = panels.of("continuous");
        assert_eq!(of, [(1_000.0, [9.0, 2.0, 3.0], true), (10_000.0, [1.0, 2.0, 3.0], false)]);
        assert!(panels.of("Renoir").is_empty());
    }
}
