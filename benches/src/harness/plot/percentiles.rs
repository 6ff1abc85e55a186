//! Latency by percentile: the further to the right, the rarer.

use hdrhistogram::Histogram;
use plotters::coord::Shift;
use plotters::prelude::*;

use super::{FAINT, Failure, INK, Key, Plot, colour, decades, px, text, titled, with_keys};
use crate::harness::result::tick;

/// A histogram with a name.
#[derive(Clone, Debug)]
pub struct Named {
    /// What it is of.
    pub name: String,
    /// Nanoseconds.
    pub histogram: Histogram<u64>,
}

/// Latencies by percentile.
#[derive(Clone, Debug)]
pub struct PercentilePlot {
    /// What it shows.
    pub title: String,
    /// What was measured.
    pub subtitle: String,
    /// A line each.
    pub series: Vec<Named>,
}

/// As far as there is more than one event beyond: `(1 / (1 - quantile), microseconds)`.
fn points(histogram: &Histogram<u64>) -> Vec<(f64, f64)> {
    let count = histogram.len() as f64;
    let steps = histogram.iter_quantiles(8).map(|value| {
        let beyond = 1.0 / (1.0 - value.quantile_iterated_to());
        (beyond.min(count), value.value_iterated_to() as f64 / 1e3)
    });
    steps.filter(|(beyond, _)| *beyond <= count).collect()
}

impl Plot for PercentilePlot {
    fn is_empty(&self) -> bool {
        self.series.iter().all(|series| series.histogram.is_empty())
    }

    fn draw<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>, scale: f64) -> Result<(), Failure<DB>> {
        let area = titled(area, &self.title, &self.subtitle, scale)?;
        let series: Vec<_> = self.series.iter().map(|series| points(&series.histogram)).collect();
        let key = |(at, series): (usize, &super::Named)| Key {
            name: series.name.clone(),
            colour: colour(at).to_rgba(),
            width: 2,
            dash: None,
        };
        let keys: Vec<Key> = self.series.iter().enumerate().map(key).collect();
        let area = with_keys(&area, &keys, scale)?;
        let (low, high) = decades(series.iter().flatten().map(|(_, micros)| *micros));
        let (_, far) = decades(series.iter().flatten().map(|(beyond, _)| *beyond));
        let mut chart = ChartBuilder::on(&area)
            .margin_left(px(8.0, scale))
            .margin_right(px(16.0, scale))
            .margin_top(px(8.0, scale))
            .x_label_area_size(px(46.0, scale))
            .y_label_area_size(px(72.0, scale))
            .build_cartesian_2d((1.0..far.max(100.0)).log_scale(), (low..high).log_scale())?;
        chart
            .configure_mesh()
            .bold_line_style(FAINT)
            .light_line_style(TRANSPARENT)
            .axis_style(INK.mix(0.6))
            .label_style(text(12.0, scale))
            .x_label_formatter(&|beyond| percentile(*beyond))
            .y_label_formatter(&|micros| tick(*micros))
            .x_desc("percentile")
            .y_desc("latency")
            .axis_desc_style(text(13.0, scale))
            .draw()?;
        for (at, points) in series.into_iter().enumerate() {
            let style = colour(at).stroke_width(px(2.0, scale));
            chart.draw_series(LineSeries::new(points, style))?;
        }
        Ok(())
    }
}

/// The percentile of which one in this many is beyond: 10 is the 90th.
fn percentile(beyond: f64) -> String {
    let nines = beyond.log10().round();
    if (beyond.log10() - nines).abs() > 0.01 {
        return String::new();
    }
    match nines as i32 {
        0 => "0 %".to_owned(),
        1 => "90 %".to_owned(),
        2 => "99 %".to_owned(),
        more => format!("99.{} %", "9".repeat((more - 2).max(0) as usize)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::slots::histogram;

    #[test]
    fn percentiles_are_named_by_their_nines() {
        let names = [1.0, 10.0, 100.0, 1_000.0, 10_000.0, 20.0].map(percentile);
        assert_eq!(names, ["0 %", "90 %", "99 %", "99.9 %", "99.99 %", ""]);
    }

    #[test]
    fn no_point_is_rarer_than_one_event() {
        let mut all = histogram();
        (1..=1_000).for_each(|micros| all.record(micros * 1_000).unwrap());
        let points = points(&all);
        assert!(points.iter().all(|(beyond, _)| (1.0..=1_000.0).contains(beyond)));
        let (_, half) = points.iter().find(|(beyond, _)| *beyond >= 2.0).unwrap();
        assert!((half - 500.0).abs() < 2.0, "{half}");
    }
}
